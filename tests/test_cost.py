"""Dollars for tokens and hours, and how many instances a rate takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.plan.cost import instances, usd_per_million
from heavylift.plan.performance.throughput import BUSIEST


def test_a_million_tokens_at_a_thousand_a_second_take_a_thousand_seconds() -> None:
    assert usd_per_million(3.6, 1000.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "each", "count"), [(0.8, 1.0, 1), (0.81, 1.0, 2), (8.0, 1.0, 10), (0.01, 5.0, 1)])
def test_instances_work_at_four_fifths_of_what_they_can(rate: float, each: float, count: int) -> None:
    assert instances(rate, each) == count


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.integers(1, 5))
def test_so_many_instances_keep_up_and_one_fewer_does_not(rate: float, each: float, least: int) -> None:
    count = instances(rate, each, least)

    assert count * each * BUSIEST >= rate * (1 - 1e-6) and count >= least
    assert count == least or (count - 1) * each * BUSIEST < rate
