"""vLLM's memory identity against the splits that it logged on H100s: given weights, and from config.json alone."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heavylift.plan import facts
from heavylift.plan.memory import vllm
from heavylift.plan.memory.vllm import GIB, VERSIONS, Batching, budget, sequences
from heavylift.plan.model import ModelFacts

GOLDEN = Path(__file__).parent / "golden" / "vllm-memory"
H100, L4 = facts.accelerators()["H100"], facts.accelerators()["L4"]
MISSED = {"Mistral-Small-3.2-24B": -2.8}
"""KV budget minus the log's, in GiB: a model that also sees, of which neither law holds; known and kept."""


@dataclass(frozen=True)
class Split:
    """A row of splits.csv; GiB, None where the log does not say."""

    row: dict[str, str]

    def gib(self, name: str) -> float | None:
        return None if self.row[name] == "unknown" else float(self.row[name])

    @property
    def model(self) -> ModelFacts:
        return ModelFacts.of(json.loads((GOLDEN / "configs.json").read_text())[self.row["model"]])

    def budget(self, **changes: Any) -> vllm.Budget:
        row = self.row
        settings: dict[str, Any] = {
            "dtype": row["dtype"],
            "quantization": row["quantization"],
            "tp": int(row["tp"]),
            "utilization": float(row["utilization"]),
            "version": VERSIONS[row["vllm"]],
        }
        return budget(self.model, H100, **{**settings, **changes})


def splits() -> list[Split]:
    with (GOLDEN / "splits.csv").open(encoding="utf-8", newline="") as file:
        return [Split(row) for row in csv.DictReader(file)]


def title(split: Split) -> str:
    return "-".join((split.row["model"], split.row["vllm"], split.row["dtype"], "tp" + split.row["tp"]))


@pytest.mark.parametrize("split", [s for s in splits() if s.gib("context") and s.gib("cache")], ids=title)
def test_the_identity_closes_to_rounding_on_every_logged_split(split: Split) -> None:
    weights, activations, context = (split.gib(name) for name in ("weights", "activations", "context"))
    assert weights is not None and activations is not None and context is not None

    left = float(split.row["utilization"]) * H100.memory_gib - weights - activations - context

    assert left == pytest.approx(split.gib("cache"), abs=0.011 if split.row["vllm"] == "0.11" else 0.025)


@pytest.mark.parametrize("split", [s for s in splits() if s.gib("cache") and s.gib("weights")], ids=title)
def test_the_kv_budget_is_within_a_tenth_of_a_gib_of_the_log(split: Split) -> None:
    weights, logged = split.gib("weights"), split.gib("cache")
    assert weights is not None and logged is not None

    error = split.budget(weights=int(weights * GIB)).cache / GIB - logged

    if split.row["model"] in MISSED:
        assert error == pytest.approx(MISSED[split.row["model"]], abs=0.1)
    else:
        assert abs(error) <= 0.1


@pytest.mark.parametrize("split", [s for s in splits() if s.gib("weights")], ids=title)
def test_a_ranks_weights_follow_from_config_json_alone(split: Split) -> None:
    logged = split.gib("weights")
    assert logged is not None

    ours = split.budget().weights / GIB

    seeing = split.row["model"] in MISSED  # its vision tower is not in the language model's sizes
    assert ours == pytest.approx(logged - 0.85 if seeing else logged, rel=0.005, abs=0.08)


@pytest.mark.parametrize("split", [s for s in splits() if s.gib("activations")], ids=title)
def test_the_activations_follow_from_vocabulary_and_batch(split: Split) -> None:
    logged = split.gib("activations")
    assert logged is not None

    ours = split.budget().activations / GIB

    if split.row["model"] in MISSED:
        assert ours > logged + 2
    else:
        assert ours == pytest.approx(logged, abs=0.12)


def test_fewer_sequences_free_gibs_on_a_small_card() -> None:
    model = next(split.model for split in splits() if split.row["model"] == "Qwen3-0.6B")

    many = budget(model, L4, batch=Batching(1024, 2048))
    default = budget(model, L4)

    assert vllm.batching(L4) == Batching(256, 2048) and vllm.batching(H100) == Batching(1024, 8192)
    assert default.cache - many.cache > 1.4 * GIB


def test_a_model_that_just_does_not_fit_is_told_how_many_sequences_would_let_it() -> None:
    gemma = next(split.model for split in splits() if split.row["model"] == "gemma-2-27b")
    room = budget(gemma, H100).cache - vllm.GRAPHS

    batch = vllm.fewer_sequences(gemma, H100, room + GIB)

    assert batch == Batching(512, 8192)
    assert budget(gemma, H100, batch=batch).cache - vllm.GRAPHS >= room + GIB
    assert vllm.fewer_sequences(gemma, H100, room) is None  # it fits already
    assert vllm.fewer_sequences(gemma, H100, room + 20 * GIB) is None


def test_sequences_are_what_the_cache_holds_and_none_where_it_is_negative() -> None:
    llama = next(split.model for split in splits() if split.row["model"] == "Llama-3.3-70B-FP8")

    alone, split = budget(llama, H100, quantization="fp8"), budget(llama, H100, quantization="fp8", tp=2)

    assert alone.cache / GIB == pytest.approx(-1.44, abs=3.6)  # the log's, with 0.11's larger activations
    assert sequences(llama, alone, 16_000) <= 2 < 10 < sequences(llama, split, 16_000, tp=2)
