"""A plan's timeouts and volume: computed from bytes and bandwidth, within what SageMaker takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan import facts, times
from heavylift.plan.memory import GIB
from heavylift.plan.plan import Plan
from tests.locked import SMALL, XXL, lock_of, spec_of, why


def test_a_given_volume_keeps_nvme_types_out() -> None:
    plan = Plan.fit(spec_of(code="c", volume_size_in_gb=100), lock_of(None, size=6 * GIB, code=True))

    assert plan.instance.nvme is False and plan.variant.volume_size_in_gb == 100


def test_timeouts_follow_from_bytes_and_bandwidth_and_stay_within_sagemakers_limits() -> None:
    small, large = Plan.fit(spec_of(), lock_of(SMALL)), Plan.fit(spec_of(), lock_of(XXL))

    assert 60 <= small.variant.container_startup_health_check_timeout_in_seconds < 300
    assert large.variant.container_startup_health_check_timeout_in_seconds > 300
    assert large.variant.model_data_download_timeout_in_seconds == 120  # the container streams; SageMaker copies little
    assert "1 GB/s + 30 s start" in why(large, "container_startup_health_check_timeout_in_seconds")


def test_with_isolation_the_download_counts_against_the_other_timeout() -> None:
    streamed = Plan.fit(spec_of(), lock_of(XXL)).variant
    copied = Plan.fit(spec_of(enable_network_isolation=True), lock_of(XXL)).variant

    assert copied.model_data_download_timeout_in_seconds > streamed.model_data_download_timeout_in_seconds
    assert (
        copied.container_startup_health_check_timeout_in_seconds
        < streamed.container_startup_health_check_timeout_in_seconds
    )
    assert copied.volume_size_in_gb == 30 + 52  # ⌈1.15 · 45.0 GB⌉


@given(size=st.integers(0, 2 * 10**12), name=st.sampled_from(sorted(facts.instances())))
def test_a_timeout_is_always_one_that_sagemaker_takes(size: int, name: str) -> None:
    fact = facts.instances()[name]

    for answer in (times.download_timeout(size, fact), times.health_timeout(size, size, fact)):
        assert 60 <= answer.value <= 3600
    assert 1 <= times.volume(size).value <= 512


def test_what_no_volume_holds_and_no_timeout_allows_is_refused() -> None:
    huge = spec_of(code="c", volume_size_in_gb="auto", instance_type="ml.m5.24xlarge", tensor_parallel_degree=1)

    with pytest.raises(InputError, match=r"needs .* GiB of host memory"):
        Plan.fit(huge, lock_of(None, size=600 * 10**9, code=True))
    assert times.volume(600 * 10**9).over and times.health_timeout(10**13, 0, facts.instances()["ml.c5.large"]).over


def test_given_values_are_kept_and_the_computed_ones_shown_beside_them() -> None:
    spec = spec_of(container_startup_health_check_timeout_in_seconds=777, volume_size_in_gb=44)
    plan = Plan.fit(spec, lock_of(SMALL))

    assert plan.variant.container_startup_health_check_timeout_in_seconds == 777
    assert plan.variant.volume_size_in_gb == 44
    assert why(plan, "volume_size_in_gb").startswith("computed would be 30")
