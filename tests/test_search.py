"""The search: every option has its times or its reasons, nothing on the front is beaten, the choice follows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.model import ModelFacts
from heavylift.plan.pareto import front
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.speed import Request
from heavylift.plan.plan import Plan
from heavylift.plan.search import Candidate, Found, Option, Planned, Wanted, search
from heavylift.plan.traffic import Traffic
from heavylift.plan.validity import Split
from tests.locked import SLO, SMALL, XXL, lock_of, spec_of, why
from tests.test_latency import LLAMA_70B

MODEL = ModelFacts.of(LLAMA_70B)
TARGETS = Targets(first_token=1.0, per_token=0.05, request=60.0)


@cache
def found(rate: float = 2.0, targets: Targets = TARGETS, instances: int = 1) -> Found:
    """Llama-3.1-70B in bf16 on vLLM, over every type."""
    size = MODEL.weight_bytes("bf16")
    traffic = Traffic(Load(Request(1024, 256), requests_per_second=rate), targets, "given", "a test")
    return search(MODEL, Wanted("bf16", "none", instances, 1, size, "x"), traffic, (), engines=["vllm"])


def candidate(text: str, among: Found) -> Candidate:
    return next(each for each in among.candidates if str(each.option) == text)


def test_every_option_has_its_times_or_its_reasons() -> None:
    every = found()

    types = {each.option.fact.type for each in (*every.candidates, *every.rejected)}
    assert types == {name for name, fact in facts.instances().items() if fact.hardware == "gpu"}
    assert all(each.reasons and all(each.reasons) for each in every.rejected)
    devices = [each.option.fact.accelerator for each in every.candidates if each.estimate is None]
    unknown = {device.name for device in devices if device is not None}
    assert unknown == {"RTX-PRO-4500"}  # nobody published its arithmetic


def test_weights_that_do_not_fit_are_rejected_with_the_gibibytes_that_lack() -> None:
    reasons = {str(each.option): each.reasons for each in found().rejected}

    assert "GiB too few for" in reasons["ml.g5.xlarge: vllm bf16 at degree 1"][0]
    assert "ml.p5.48xlarge: vllm bf16 at degree 8" not in reasons
    assert any("cannot" in reason for reason in reasons["ml.g5.xlarge: vllm bf16 fp8 at degree 1"]) or (
        "GiB too few for" in reasons["ml.g5.xlarge: vllm bf16 fp8 at degree 1"][0]
    )


def test_nothing_on_the_front_is_beaten() -> None:
    every = found()

    for each in every.front:
        for other in every.candidates:
            if other.usd_per_hour is not None and other.estimate is not None:
                better = [a <= b for a, b in zip(other.costs, each.costs, strict=True)]
                assert not all(better) or other.costs == each.costs
    prices = [each.usd_per_hour for each in every.front]
    assert prices == sorted(price for price in prices if price is not None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=40))
def test_a_front_has_exactly_what_nothing_beats(costs: list[tuple[int, int, int]]) -> None:
    kept = set(front(costs, lambda cost: cost))

    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    assert kept == {cost for cost in costs if not any(beats(other, cost) for other in costs)}


def test_the_best_is_the_cheapest_that_keeps_every_target_at_p90() -> None:
    every = found()

    best = every.best()

    assert best is not None and best[1] == "the cheapest that keeps the targets at P90"
    price = best[0].usd_per_hour
    assert price is not None and best[0].estimate is not None and best[0].estimate.probability >= 0.9
    for other in every.candidates:
        if other.estimate is not None and other.estimate.sure and other.usd_per_hour is not None:
            assert other.usd_per_hour >= price


def test_targets_that_nothing_keeps_leave_the_cheapest_and_say_so() -> None:
    best = found(2.0, Targets(per_token=1e-4)).best()

    assert best is not None and best[1] == "the cheapest that fits: none is predicted to keep the targets"


@pytest.mark.slow
def test_a_higher_rate_takes_more_instances_and_makes_a_token_cheaper() -> None:
    name = "ml.p5.4xlarge: vllm bf16 awq at degree 1"

    few, many = candidate(name, found(0.2)), candidate(name, found(20.0))

    assert few.instances == 1 < many.instances
    assert few.usd_per_million is not None and many.usd_per_million is not None
    assert many.usd_per_million < few.usd_per_million
    assert few.usd_per_million_most == pytest.approx(many.usd_per_million_most, rel=0.01)
    assert f"initial_instance_count: {many.instances}" in many.asks


def test_over_pcie_copies_beat_one_wide_split_and_over_nvswitch_the_split_is_quicker() -> None:
    every = found(0.5)

    def of(text: str) -> Any:
        estimate = candidate(text, every).estimate
        assert estimate is not None
        return estimate

    wide, copies = (
        of("ml.g6e.48xlarge: vllm bf16 fp8 at degree 8"),
        of("ml.g6e.48xlarge: vllm bf16 fp8 at degree 4, 2 copies"),
    )
    assert wide.first_token.p50 > copies.first_token.p50 and wide.most_tokens.p50 < copies.most_tokens.p50
    split, pairs = (
        of("ml.p5.48xlarge: vllm bf16 fp8 at degree 8"),
        of("ml.p5.48xlarge: vllm bf16 fp8 at degree 2, 4 copies"),
    )
    assert split.per_token.p50 < pairs.per_token.p50 and split.first_token.p50 < pairs.first_token.p50


def test_what_the_model_file_does_not_say_is_asked_for() -> None:
    asks = candidate("ml.p5.48xlarge: vllm bf16 fp8 at degree 4, 2 copies", found()).asks

    assert asks == (
        "quantization: fp8, quality not evaluated",
        "serving.workers: 2",
    )


@pytest.mark.slow
def test_the_search_gives_the_same_at_every_run() -> None:
    again = found.__wrapped__(2.0)

    assert [str(each.option) for each in again.front] == [str(each.option) for each in found().front]
    assert again.candidates[0].estimate == found().candidates[0].estimate


def test_a_model_of_unknown_operations_has_no_times_but_a_price() -> None:
    fact = facts.instances()["ml.g5.xlarge"]
    planned = [Planned(Option(fact, "script", "fp32", "none", Split(1), 1), 1)]
    traffic = found().traffic

    every = search(None, Wanted("fp32", "none", 1, 1, 10**9, "x"), traffic, planned)

    assert every.candidates[0].estimate is None and every.candidates[0].usd_per_hour == 1.408
    assert every.front == []
    best = every.best()
    assert best is not None and best[1] == "the cheapest that fits; how fast it is, is not known"


@pytest.mark.slow
def test_a_load_beyond_a_thousand_instances_is_rejected() -> None:
    every = found(1e5)

    assert any("one endpoint has at most 1000" in reason for each in every.rejected for reason in each.reasons)


def test_a_stricter_target_takes_a_larger_processor() -> None:
    def chosen(milliseconds: float) -> Plan:
        benchmark = {"workload": "four-tasks", "slo": [{**SLO, "max_ms": milliseconds}]}
        return Plan.fit(spec_of(benchmark=benchmark), lock_of(XXL))

    loose, strict = chosen(20_000.0), chosen(2_000.0)

    prices = [plan.instance.price.usd_per_hour for plan in (loose, strict) if plan.instance.price is not None]
    assert len(prices) == 2 and prices[0] < prices[1]
    assert "cheaper that fit are too slow" in why(strict, "instance_type")


def test_a_target_that_cannot_be_met_leaves_the_choice_as_it_was() -> None:
    impossible = {"workload": "four-tasks", "slo": [{**SLO, "max_ms": 0.1}]}

    plan = Plan.fit(spec_of(benchmark=impossible, tensor_parallel_degree=2), lock_of(SMALL))

    assert plan.instance.type == "ml.c6i.xlarge"
    assert "none is predicted to keep the targets" in why(plan, "instance_type")
    assert plan.performance is not None and plan.performance.probability == 0


def test_a_declared_rate_is_counted_with_and_what_it_takes_is_said() -> None:
    traffic = {"input_tokens": 100, "output_tokens": 50, "requests_per_second": 400.0}

    plan = Plan.fit(spec_of(traffic=traffic, serving={"batch_size": 4}), lock_of(SMALL))

    assert why(plan, "traffic").startswith("the model file: 400 requests per second of 100 tokens in, 50 out")
    assert "set initial_instance_count" in why(plan, "initial_instance_count")


def test_a_wide_plan_also_shows_engines_of_later_versions_and_is_otherwise_the_same() -> None:
    spec, lock = spec_of(), lock_of(SMALL)

    narrow, wide = Plan.fit(spec, lock), Plan.fit(spec, lock, wide=True)

    assert {each.engine for each in narrow.alternatives} == {"native"}
    assert "accelerate" in {each.engine for each in wide.alternatives}
    assert replace(wide, alternatives=narrow.alternatives) == narrow
    assert all(each.asks for each in wide.alternatives if each.engine != "native")


@pytest.mark.parametrize("engine", ["native", "auto"])
def test_a_given_type_is_kept_whatever_it_costs(engine: str) -> None:
    plan = Plan.fit(spec_of(instance_type="ml.c6i.32xlarge", engine=engine), lock_of(SMALL))

    assert plan.instance.type == "ml.c6i.32xlarge"
    assert {each.instance_type for each in plan.alternatives} == {"ml.c6i.32xlarge"}


def test_a_model_that_fits_nowhere_is_still_refused() -> None:
    with pytest.raises(InputError, match="GiB"):
        Plan.fit(spec_of(instance_type="ml.c6i.large"), lock_of(XXL))
