"""A copy under a load: batches, rates, queues, intervals, and what a target leaves of its capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.plan.facts import accelerators
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import NAMES, calibration_for
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.interval import DRAWS, Interval, normals
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.speed import Batches, Request, Speed
from heavylift.plan.performance.throughput import Copy, under
from heavylift.plan.performance.work import Work

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
REQUEST = Request(512, 128)


def copy(name: str = "H100", degree: int = 1, kind: type[Speed] = Speed, most: int = 256, **changes: Any) -> Copy:
    device = Device.of(accelerators()[name], "bf16")
    assert device is not None
    coefficients = calibration_for("vllm", name).draw(normals()[:, : len(NAMES)])
    speed = kind(Work.of(ModelFacts.of(LLAMA_8B), "bf16"), device, degree, coefficients)
    return replace(Copy(speed, REQUEST, most, 0.15, 0.3), **changes)


def test_a_full_copy_answers_more_the_larger_its_batch_and_each_user_waits_longer() -> None:
    one = copy()

    assert (np.diff(one.per_token, axis=0) > 0).all()
    assert (np.diff(one.rate, axis=0) > 0).all()
    assert one.batches[0, 0] == 1 and one.batches[-1, 0] == 256


def test_a_target_bounds_the_batch_and_with_it_the_rate() -> None:
    one = copy()

    strict, loose = one.capacity(Targets(per_token=0.012)), one.capacity(Targets(per_token=0.03))

    assert strict is not None and loose is not None
    assert strict.rows < loose.rows and np.median(strict.rate) < np.median(loose.rate)
    assert one.capacity(Targets(per_token=0.001)) is None
    assert loose.rows <= one.largest.rows == 256


def test_the_capacity_keeps_every_target_in_nine_draws_of_ten_and_the_next_batch_does_not() -> None:
    one, targets = copy(), Targets(per_token=0.015, first_token=1.0)

    found = one.capacity(targets)

    assert found is not None
    place = int(np.searchsorted(one.batches[:, 0], found.rows))
    assert one.full(place).probability(targets) >= 0.9 > one.full(place + 1).probability(targets)


def test_requests_that_come_when_they_please_fill_the_batch_that_their_rate_needs() -> None:
    one = copy()

    slow, quick = one.open(0.5), one.open(20.0)

    assert slow is not None and quick is not None
    assert np.median(slow.rows) < 4 < np.median(quick.rows)
    littles = quick.rows / (20.0 * quick.request)  # Little's law: rows = rate · time in the system
    assert 0.7 < np.median(littles) < 1.5
    assert one.open(1e4) is None


def test_a_closed_loop_beyond_the_batch_waits_for_those_before() -> None:
    one = copy(most=8)

    inside, beyond = one.closed(8), one.closed(16)

    assert np.median(beyond.first_token) > np.median(inside.request)
    assert np.median(beyond.rate) == np.median(inside.rate)


def test_half_the_clients_go_to_each_of_two_copies() -> None:
    one, load = copy(), Load(REQUEST, clients=32)

    alone, shared = under(one, load, 1), under(one, load, 2)

    assert alone is not None and shared is not None
    assert np.median(alone.rows) >= 32 > np.median(shared.rows) >= 16
    assert np.median(shared.per_token) < np.median(alone.per_token)


def test_an_engine_of_whole_batches_waits_for_the_batch_before() -> None:
    joining, whole = copy(), copy(kind=Batches)

    rate = 4.0
    one, other = joining.open(rate), whole.open(rate)

    assert one is not None and other is not None
    assert np.median(other.first_token) > 2 * np.median(one.first_token)


def test_intervals_are_those_of_numpys_percentiles() -> None:
    draws = np.exp(normals()[:, 3])

    found = Interval.of(draws)

    assert (found.p10, found.p50, found.p90) == pytest.approx(tuple(np.percentile(draws, (10, 50, 90))))
    assert Interval.of(2.0) == Interval(2.0, 2.0, 2.0)


@settings(max_examples=30)
@given(
    st.floats(1, 8000), st.floats(1, 2000), st.integers(1, 300), st.floats(1e-3, 50), st.sampled_from([Speed, Batches])
)
def test_no_load_gives_a_time_that_is_no_number(
    prompt: float, answer: float, clients: int, rate: float, kind: type[Speed]
) -> None:
    one = replace(copy("L4", kind=kind, most=64), request=Request(prompt, answer))

    for point in (one.closed(clients), one.open(rate), one.full(len(one.batches) - 1)):
        if point is not None:
            for times in (point.first_token, point.per_token, point.request, point.rate):
                assert times.shape == (DRAWS,) and np.isfinite(times).all() and (times > 0).all()
            spread = Interval.of(point.request)
            assert spread.p10 <= spread.p50 <= spread.p90
