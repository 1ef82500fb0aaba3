"""The native engine against transformers: each architecture, divided into parts and stages, from each kind of file.

Pairs of all values by default; all cells with HEAVYLIFT_MATRIX=FILE, where then is what was found (`make test-matrix`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import torch

from tests.oracle_matrix import FORMS, KINDS, PAIRS, STAGES, WHOLE, Agreement, Cell, Oracle
from tests.rank_pool import Pool

RECORD = os.environ.get("HEAVYLIFT_MATRIX")
CELLS = sorted(PAIRS if RECORD is None else WHOLE, key=lambda cell: KINDS.index(cell.kind))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    folder = tmp_path_factory.mktemp("matrix")
    pool = Pool(8, folder)
    yield Oracle(folder, pool)
    pool.close()


@pytest.fixture(scope="module")
def found() -> Iterator[dict[Cell, Agreement]]:
    """What each cell said; written where a record is asked for and all of them passed."""
    agreements: dict[Cell, Agreement] = {}
    began = time.time()
    yield agreements
    if RECORD is None:
        return
    ties = {"-".join(map(str, cell)): each.ties for cell, each in agreements.items() if each.ties}
    document = {
        "when": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "torch": torch.__version__,
        "cells": len(CELLS),
        "passed": len(agreements),
        "prompts": 4 * len(agreements),
        "near_ties": sum(ties.values()),
        "near_ties_by_cell": ties,
        "largest_logit_difference": max((each.difference for each in agreements.values()), default=None),
        "worst": {kind: max(e.difference for c, e in agreements.items() if c.kind == kind) for kind in KINDS
                  if any(cell.kind == kind for cell in agreements)},
    }  # fmt: skip
    Path(RECORD).write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def test_the_pairs_are_all_pairs() -> None:
    def pairs(cells: list[Cell]) -> set[object]:
        return {(places, cell[places[0]], cell[places[1]]) for cell in cells for places in combinations(range(4), 2)}

    assert pairs(PAIRS) == pairs(WHOLE)
    assert len(WHOLE) == len(KINDS) * 3 * len(STAGES) * len(FORMS)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=["-".join(map(str, cell)) for cell in CELLS])
def test_logits_and_greedy_tokens_are_those_of_transformers(
    oracle: Oracle, found: dict[Cell, Agreement], cell: Cell
) -> None:
    agreement = oracle.agreement(cell)

    found[cell] = agreement
    assert agreement.ties <= 2, "so many near-ties are no chance"
