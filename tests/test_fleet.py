"""The cheapest fleet: against brute force, Mélange's own formulation, and what any optimum must obey."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan.fleet import Problem, solve
from tests.fleet_oracles import NUMBERS, SLACK, brute_force, check, problem_of, problems, slices


@pytest.mark.slow
@settings(max_examples=150)
@given(problems())
def test_no_fleet_is_cheaper_than_ours_and_ours_does_carry_the_load(problem: Problem) -> None:
    strict, loose = brute_force(problem, 0.0), brute_force(problem, SLACK)

    if strict is None:
        if loose is None:
            with pytest.raises(InputError):
                solve(problem)
        return
    fleet = solve(problem)

    assert loose is not None
    assert loose - 1e-9 <= fleet.usd_per_hour <= strict + 1e-9
    assert fleet.gap <= 1e-9
    check(problem, fleet)


@pytest.mark.slow
@settings(max_examples=60)
@given(problems(quotas=False), st.integers(1, 3))
def test_ours_never_costs_more_than_melanges_slices(problem: Problem, factor: int) -> None:
    assume(problem.asked)
    sliced = slices(problem, factor)
    assume(sliced is not None)

    assert solve(problem).usd_per_hour <= sliced + 1e-9  # type: ignore[operator]  # assumed above


@settings(max_examples=60)
@given(problems(offers=4, buckets=4, quotas=False), st.randoms(use_true_random=False))
def test_the_order_of_the_types_changes_nothing(problem: Problem, random: object) -> None:
    shuffled = list(problem.offers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's Random
    try:
        first = solve(problem)
    except InputError:
        with pytest.raises(InputError):
            solve(replace(problem, offers=tuple(shuffled)))
        return

    assert solve(replace(problem, offers=tuple(shuffled))).counts == first.counts


@settings(max_examples=60)
@given(problems(offers=4, buckets=4), NUMBERS)
def test_units_do_not_matter_and_less_choice_is_never_cheaper(problem: Problem, factor: float) -> None:
    try:
        fleet = solve(problem)
    except InputError:
        return
    scaled = replace(
        problem,
        buckets=tuple(replace(b, requests_per_second=b.requests_per_second * factor) for b in problem.buckets),
        offers=tuple(
            replace(o, usd_per_hour=o.usd_per_hour * 3, throughput=tuple(t * factor for t in o.throughput))
            for o in problem.offers
        ),
    )

    assert solve(scaled).usd_per_hour == pytest.approx(3 * fleet.usd_per_hour, rel=1e-6)
    if len(problem.offers) > 1:
        with contextlib.suppress(InputError):  # fewer types may not serve every size
            assert solve(replace(problem, offers=problem.offers[1:])).usd_per_hour >= fleet.usd_per_hour - 1e-9


@pytest.mark.parametrize("rate", [1e-30, 1e-12, 1e-9, 1e-6, 1e-3])
def test_a_rate_however_small_needs_an_instance_that_serves_its_size(rate: float) -> None:
    problem = problem_of([1.0, rate], [1.0, 5.0], [[10.0, 0.0], [10.0, 10.0]])

    assert solve(problem).counts == {"t1": 1}
    assert solve(problem_of([rate, rate], [1.0, 1.0], [[10.0, 0.0], [0.0, 10.0]])).counts == {"t0": 1, "t1": 1}


@pytest.mark.parametrize("rate", [1e3, 1e5, 1e7])
def test_huge_rates_are_answered_to_a_millionth(rate: float) -> None:
    problem = problem_of([rate, rate / 2], [1.0, 3.0], [[7.0, 0.5], [9.0, 5.0]])

    fleet = solve(problem)

    # the relaxation: bucket 0 on t0 at 1/7 dollars, bucket 1 on t1 at 3/5 dollars a request
    assert fleet.usd_per_hour == pytest.approx(rate / 7 + rate / 2 * 3 / 5, rel=1e-3, abs=4)
    check(problem, fleet)


def test_exactly_full_instances_need_no_more() -> None:
    fleet = solve(problem_of([0.3], [1.0], [[0.1]]))  # 0.3 / 0.1 is 2.9999999999999996, 3 · 0.1 is 0.30000000000000004

    assert fleet.counts == {"t0": 3}
    assert fleet.growth == pytest.approx(1)


def test_without_any_request_the_cheapest_instance_stands_ready() -> None:
    fleet = solve(problem_of([0.0], [2.0, 1.0], [[1.0], [0.0]]))

    assert (fleet.counts, fleet.growth, fleet.unrouted) == ({"t1": 1}, None, None)


def test_free_types_are_used_within_their_quota() -> None:
    problem = problem_of([10.0], [0.0, 1.0], [[1.0], [1.0]])
    offers = (replace(problem.offers[0], at_most=4), problem.offers[1])

    assert solve(replace(problem, offers=offers)).usd_per_hour == 6.0


def test_head_room_and_a_minimum_of_instances_hold() -> None:
    problem = problem_of([9.5], [1.0], [[10.0]])

    assert solve(problem).counts == {"t0": 1}
    assert solve(replace(problem, head_room=0.1)).counts == {"t0": 2}
    assert solve(replace(problem, minimum_instances=3)).counts == {"t0": 3}


def test_an_at_least_is_kept_though_it_costs() -> None:
    problem = problem_of([1.0], [1.0, 9.0], [[10.0], [10.0]])
    offers = (problem.offers[0], replace(problem.offers[1], at_least=1))

    assert solve(replace(problem, offers=offers)).counts["t1"] == 1


def test_more_types_than_pools_are_not_used() -> None:
    rates = [1.0] * 4
    tables = [[1.0 if place == own else 0.0 for place in range(4)] for own in range(4)] + [[0.1] * 4]
    problem = problem_of(rates, [1.0] * 4 + [10.0], tables, most_types=3)

    fleet = solve(problem)

    assert len(fleet.types) <= 3
    assert solve(replace(problem, most_types=4)).usd_per_hour == 4.0 < fleet.usd_per_hour


def test_a_share_for_each_type_and_what_one_type_alone_would_cost() -> None:
    fleet = solve(problem_of([10.0, 1.0], [1.0, 4.0], [[10.0, 0.25], [20.0, 4.0]]))

    assert fleet.counts == {"t0": 1, "t1": 1} or fleet.usd_per_hour < 5
    alone = {one.name: one for one in fleet.alone}
    assert alone["t0"].count == 5 and alone["t0"].saving == pytest.approx(1 - fleet.usd_per_hour / 5)


def test_of_fleets_that_cost_the_same_one_type_alone_is_taken() -> None:
    # per dollar all three do the same work, and 7 / 1 = 7, ⌈7 / 4⌉ = 2 of $4, ⌈7 / 3.5⌉ = 2 of $3.5
    fleet = solve(problem_of([3.0, 4.0], [1.0, 4.0, 3.5], [[1.0, 1.0], [4.0, 4.0], [3.5, 3.5]]))

    assert (fleet.counts, fleet.usd_per_hour, fleet.gap) == ({"t2": 2}, 7.0, 0.0)


def test_requests_spread_without_regard_to_size_need_more() -> None:
    fleet = solve(problem_of([10.0, 4.0], [1.0, 4.0], [[10.0, 0.1], [11.0, 4.0]]))

    assert fleet.counts == {"t0": 1, "t1": 1}
    assert fleet.growth == pytest.approx(1) and fleet.unrouted is not None and fleet.unrouted < 0.6


def test_a_size_that_nobody_serves_is_named() -> None:
    with pytest.raises(InputError, match=r"no offered type \(t0, t1\) serves 200 tokens in, 50 out within the SLO"):
        solve(problem_of([1.0, 1.0], [1.0, 2.0], [[1.0, 0.0], [2.0, 0.0]]))


def test_a_quota_that_does_not_suffice_says_what_is_missing_and_the_cheapest_repair() -> None:
    problem = problem_of([10.0], [1.0, 5.0], [[1.0], [2.0]])
    offers = (replace(problem.offers[0], at_most=4), replace(problem.offers[1], at_most=1))

    with pytest.raises(InputError) as caught:
        solve(replace(problem, offers=offers))

    assert str(caught.value) == (
        "the quotas serve 60.0 % of the 10 requests per second in this mix: 40.0 % are missing; "
        "the cheapest fleet without quotas costs $10 an hour and needs t0 from 4 to 10"
    )


def test_quotas_below_the_minimum_are_said() -> None:
    problem = problem_of([0.1], [1.0], [[1.0]], minimum_instances=3)

    with pytest.raises(InputError, match="at least 3 instances are asked for, and the quotas allow 2 in all"):
        solve(replace(problem, offers=(replace(problem.offers[0], at_most=2),)))


def test_sizes_that_need_more_types_than_may_be_are_said() -> None:
    tables = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    with pytest.raises(InputError, match="no 2 types, which is what the fleet may have, serve every size together"):
        solve(problem_of([1.0] * 3, [1.0] * 3, tables, most_types=2))


def test_every_fault_of_a_problem_is_said_at_once() -> None:
    problem = problem_of([-1.0, math.nan], [math.inf], [[1.0]], head_room=1.0, minimum_instances=0, most_types=6)

    with pytest.raises(InputError) as caught:
        solve(replace(problem, offers=(*problem.offers, *problem.offers)))

    assert len(caught.value.faults) == 10
    assert "t0 is offered 2 times; name each type once" in caught.value.faults
    assert "types must be 1 to 5, SageMaker's limit of instance pools; got 6" in caught.value.faults


def test_many_types_and_sizes_are_proven_optimal_within_seconds() -> None:
    rates = [1.7 ** (place % 7) / 9 for place in range(100)]
    tables = [
        [(3 + place % 5) * (1 + kind) ** 0.9 / (1 + 0.05 * bucket * (1 + (place + kind) % 3)) for bucket in range(100)]
        for kind in range(6)
        for place in range(5)
    ]
    prices = [0.7 * (1 + place // 5) + 0.013 * place for place in range(30)]

    fleet = solve(problem_of(rates, prices, tables), seconds=20)

    assert fleet.gap == pytest.approx(0, abs=1e-9)
