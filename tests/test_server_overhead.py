"""What a server adds to its engine's latency, and how sure that is (benchmarks/sides/added.py)."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "sides" / "added.py"


@pytest.fixture
def sides() -> Iterator[ModuleType]:
    """The benchmarks' folder is no package: they run as scripts."""
    spec = importlib.util.spec_from_file_location("added_under_test", FILE)
    assert spec is not None and spec.loader is not None
    module = sys.modules["added_under_test"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["added_under_test"]


def test_a_percentile_is_one_of_the_values_in_milliseconds(sides: ModuleType) -> None:
    seconds = [each / 1000 for each in range(1, 201)]

    assert [sides.percentile(seconds, share) for share in (0.5, 0.99, 1.0)] == [100, 198, 200]
    assert sides.percentile([0.004], 0.99) == 4


def test_what_every_answer_takes_longer_is_added_for_sure(sides: ModuleType) -> None:
    bare = [[0.010 + turn / 1000 + answer / 1e5 for answer in range(50)] for turn in range(6)]

    found = sides.added(bare, [[each + 0.002 for each in turn] for turn in bare], 0.99)

    assert (found.found, found.low, found.high) == pytest.approx((2, 2, 2))


def test_one_disturbed_turn_leaves_the_99th_percentile_open(sides: ModuleType) -> None:
    quiet = [[0.010] * 20 for _ in range(4)]
    disturbed = [*quiet[:3], [0.010] * 19 + [0.070]]

    found = sides.added(disturbed, quiet, 0.99)

    assert found.found == -60
    assert (found.low, found.high) == (-60, 0)


def test_the_same_turns_give_the_same_interval(sides: ModuleType) -> None:
    bare, side = [[0.01, 0.02], [0.03], [0.011]], [[0.02], [0.05, 0.01], [0.03]]

    assert sides.added(bare, side, 0.5) == sides.added(bare, side, 0.5)
