"""Percentiles against NumPy's."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.benchmark.percentile import percentile


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.floats(0, 100))
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    expected = float(numpy.percentile(values, percent))

    assert percentile(values, percent) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_order_of_the_samples_does_not_matter() -> None:
    assert percentile([3, 1, 2, 4], 50) == 2.5


def test_a_rank_on_a_finite_value_is_finite_though_worse_ones_are_not() -> None:
    values = [1.0, 2.0, 3.0, math.inf, math.inf]

    assert percentile(values, 50) == 3.0
    assert math.isinf(percentile(values, 51))
    assert math.isinf(percentile(values, 100))
