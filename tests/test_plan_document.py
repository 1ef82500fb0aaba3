"""A plan as documents: its own JSON and text, the gate's benchmark, serving.properties."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.benchmark.spec import Benchmark
from heavylift.errors import InputError
from heavylift.plan.plan import Plan
from heavylift.plan.show import show
from heavylift.serving import render
from heavylift_runtime.options import Options
from tests.locked import BENCHMARK, SLO, SMALL, lock_of, spec_of


def test_the_runtime_reads_back_what_the_plan_means() -> None:
    spec = spec_of(tensor_parallel_degree=2, options={"max_new_tokens": 9}, serving={"workers": 2, "batch_size": 4})
    plan = Plan.fit(spec, lock_of(SMALL))

    options = Options.parse(render(plan), {})

    assert (options.engine, options.dtype, options.tensor_parallel_degree) == ("native", "fp32", 2)
    assert (options.max_new_tokens, options.workers, options.batch_size) == (9, 2, 4)
    assert (options.max_batch_delay, options.job_queue_size) == (10, 100)


def test_planning_is_pure_and_survives_json() -> None:
    plan = Plan.fit(spec_of(), lock_of(SMALL))

    assert Plan.fit(spec_of(), lock_of(SMALL)).to_json() == plan.to_json()
    assert Plan.from_json(plan.to_json()) == plan


def test_json_that_is_no_plan_is_refused() -> None:
    document = json.loads(Plan.fit(spec_of(), lock_of(SMALL)).to_json())

    with pytest.raises(InputError, match="format"):
        Plan.from_json(json.dumps({**document, "format": "heavylift.plan/2"}))
    with pytest.raises(InputError, match="extra"):
        Plan.from_json(json.dumps({**document, "extra": 1}))
    with pytest.raises(InputError, match="JSON"):
        Plan.from_json("{")


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"description": "another"}, True),
        ({"tags": {"team": "a"}}, True),
        ({"initial_instance_count": 2}, False),
        ({"instance_type": "ml.c7i.xlarge"}, False),
        ({"serving": {"batch_size": 4}}, False),
        ({"environment": {"OMP_NUM_THREADS": "1"}}, False),
        ({"benchmark": {**BENCHMARK, "requests": 9}}, False),
        ({"benchmark": {**BENCHMARK, "slo": [{**SLO, "max_ms": 1.0}]}}, False),
    ],
)
def test_the_gate_runs_again_exactly_when_the_measurement_would_change(fields: dict[str, Any], same: bool) -> None:
    before = Plan.fit(spec_of(), lock_of(SMALL))
    after = Plan.fit(spec_of(**fields), lock_of(SMALL))

    assert (before.gate_digest == after.gate_digest) is same


def test_a_model_without_a_benchmark_has_no_gate() -> None:
    plan = Plan.fit(spec_of(benchmark=None), lock_of(SMALL))

    assert plan.benchmark is None and plan.gate_digest is None


def test_the_benchmarks_json_is_the_one_of_the_formats() -> None:
    plan = Plan.fit(spec_of(tensor_parallel_degree=2, serving={"batch_size": 4}), lock_of(SMALL))

    document = json.loads(plan.benchmark_json())

    assert document["format"] == "heavylift.benchmark/1" and "\n" not in plan.benchmark_json()
    assert document["subject"] == {
        "model": "x",
        "engine": "native",
        "quantization": "none",
        "dtype": "fp32",
        "batch": 4,
        "tensor_parallel_degree": 2,
        "workers": 1,
        "instance_type": "ml.c6i.xlarge",
        "instance_count": 1,
    }
    assert document["slo"] == [{"metric": "e2e_latency", "percentile": 90, "max_ms": 2000}]
    assert document["on_fail"] == "rollback"


def test_the_text_shows_every_decision_and_every_byte() -> None:
    plan = Plan.fit(spec_of(), lock_of(SMALL))

    text = show(plan)

    assert all(row.field in text and row.why in text for row in plan.decisions)
    assert all(row.formula in text for row in plan.memory.rows)
    assert plan.weights_digest in text and "$0.102 per hour in us-east-1 (estimated" in text


def test_an_open_load_goes_into_the_plan_and_the_gates_benchmark() -> None:
    asked = {
        **BENCHMARK,
        "workload": {"synthetic": {"prompt_words": [5, 9], "new_tokens": [1, 4]}},
        "load": {"mode": "open", "rate": 2},
        "requests": "auto",
        "max_usd": 3.0,
    }

    plan = Plan.fit(spec_of(benchmark=asked), lock_of(SMALL))
    document = json.loads(plan.benchmark_json())
    benchmark, price = Benchmark.from_dict(document), plan.instance.price

    assert price is not None
    assert document["load"] == {"mode": "open", "arrivals": "poisson", "rate": 2.0}
    assert (document["requests"], document["max_usd"], document["subject"]["usd_per_hour"]) == (
        "auto",
        3.0,
        price.usd_per_hour,
    )
    assert benchmark.requests is None and benchmark.plan.requests == 58
    assert Plan.from_json(plan.to_json()) == plan
