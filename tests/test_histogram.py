"""The histogram against HdrHistogram's own, and its exact merge."""

from __future__ import annotations

import importlib
import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.benchmark.histogram import LONGEST_US, Histogram, bucket, upper_us
from heavylift.benchmark.shape import FormatError

MS = st.lists(st.floats(0.001, 3_600_000), min_size=1, max_size=60)


@pytest.mark.parametrize("value", [1, 2, 1023, 1024, 2047, 2048, 2049, 4095, 4096, 10**6, 123_456_789, LONGEST_US])
def test_a_value_is_known_to_three_digits(value: int) -> None:
    upper = upper_us(bucket(value))

    assert value <= upper <= value * 1.001
    assert bucket(upper) == bucket(value) != bucket(upper + 1)


@given(MS)
def test_a_percentile_is_within_a_thousandth_of_the_exact_one(values: list[float]) -> None:
    histogram, ordered = Histogram.of_ms(values), sorted(values)

    for percent in (0, 50, 90, 99, 100):
        exact = ordered[max(0, math.ceil(percent / 100 * len(values) - 1e-9) - 1)]
        found = histogram.percentile(percent)
        assert found is not None and exact - 0.001 <= found <= exact * 1.001 + 0.001


@given(MS, MS, MS)
def test_shards_merge_exactly_in_any_order(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = map(Histogram.of_ms, (one, two, three))

    assert a + b + c == c + (a + b) == Histogram.of_ms(one + two + three)


@given(MS)
def test_a_histogram_survives_its_json(values: list[float]) -> None:
    histogram = Histogram.of_ms(values)

    assert Histogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram


@pytest.mark.parametrize("change", [{"format": "x"}, {"digits": 2}, {"counts": [[1]]}, {"counts": [[1, -1]]}])
def test_another_histogram_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        Histogram.from_dict({**Histogram.of_ms([1.0]).to_dict(), **change})


def test_nothing_counted_has_no_percentile() -> None:
    assert Histogram().percentile(50) is None


def test_the_percentiles_are_hdrhistograms() -> None:
    package = importlib.import_module("hdrh.histogram")  # it ships no types
    rng = Random(1)
    values = [min(LONGEST_US / 1000, rng.lognormvariate(5, 2)) for _ in range(20_000)]
    theirs = package.HdrHistogram(1, LONGEST_US, 3)
    for value in values:
        theirs.record_value(max(1, round(value * 1000)))

    ours = Histogram.of_ms(values)

    for percent in (1, 50, 90, 99, 99.9, 100):
        assert ours.percentile(percent) == theirs.get_value_at_percentile(percent) / 1000
