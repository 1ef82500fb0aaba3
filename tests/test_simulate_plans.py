"""Parallel plans compared on a trace; the iterations of an engine; the plans that APEX measured."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heavylift.errors import InputError
from heavylift.plan.facts import accelerators
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Coefficients, table
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.speed import Speed
from heavylift.plan.performance.work import Work
from heavylift.plan.simulate import Arrival, Limits, simulate
from heavylift.plan.simulate.compare import Parallel, Way, compare
from heavylift.plan.simulate.engine import EngineTime

GOLDEN = json.loads((Path(__file__).parent / "golden" / "apex-vllm.json").read_text())
LLAMA_70B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
POINT = Coefficients(0.8, 0.6, 4e-5, 3e-5, 2e-4, 1.0, 0.8, 0.1, 5e-3)


def engine(degree: int, coefficients: Coefficients = POINT, stages: int = 1) -> EngineTime:
    device = Device.of(accelerators()["H100"], "bf16")
    assert device is not None
    return EngineTime(Speed(Work.of(ModelFacts.of(LLAMA_70B), "bf16"), device, degree, coefficients, stages), 62)


def poisson(count: int, rate: float, prompt: int, answer: int) -> list[Arrival]:
    rng, now, found = random.Random(7), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        found.append(Arrival(now, prompt, answer))
    return found


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: f"{row['copies']}x{row['tensor_parallel_degree']}")
def test_apex_five_plans_of_llama_70b_take_what_was_measured_within_5_per_cent_a_token(row: dict[str, float]) -> None:
    measured = next(each for each in table() if (each.engine, each.version) == ("vllm", "0.6.0"))
    trace = poisson(1024, GOLDEN["requests_per_second"], GOLDEN["prompt_tokens"], GOLDEN["generated_tokens"])
    degree = int(row["tensor_parallel_degree"])

    outcome = simulate(trace, engine(degree, measured.point()), Limits(200_000), int(row["copies"]))

    assert 1e3 * outcome.mean_tpot_s == pytest.approx(row["tpot_ms"], rel=0.05)
    assert 1e3 * outcome.mean_ttft_s == pytest.approx(row["ttft_ms"], rel=0.30)  # TTFT is everybody's weak spot


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("context", [64, 5_000, 400_000])
def test_an_iteration_is_the_closed_forms_step(rows: int, context: int) -> None:
    found = engine(4)

    speed = found.speed
    cached = rows * speed.work.cache_bytes(62, context / rows - 62) if context / rows > 62 else 0.0
    if cached:
        assert found.decode(rows, context) == pytest.approx(float(speed.decode(np.asarray(float(rows)), cached)))
    assert found.prefill(0, 500) + found.prefill(500, 900) == pytest.approx(found.prefill(0, 900))
    assert found.prefill(500, 900) > 0


def test_stages_do_not_make_a_lone_token_faster_but_raise_the_throughput() -> None:
    trace = poisson(200, 50, 200, 50)
    one, four = engine(1), engine(1, stages=4)

    assert four.decode(1, 500) == pytest.approx(one.decode(1, 500))
    slow, fast = (simulate(trace, each, Limits(100_000)).tokens_per_second for each in (one, four))
    assert fast > 1.5 * slow


def test_the_best_plan_keeps_the_most_requests_within_the_targets() -> None:
    trace = poisson(200, 4, 500, 100)
    ways = [
        Way(Parallel(8, 1, 1), engine(8), Limits(1_500_000)),
        Way(Parallel(4, 1, 2), engine(4), Limits(600_000)),
        Way(Parallel(2, 1, 4), engine(2), Limits(60_000)),
        Way(Parallel(1, 1, 8), engine(1), Limits(0)),
    ]

    found = compare(trace, ways, {"latency": 2.5})

    kept = [each.kept for each in found.tried]
    assert kept == sorted(kept, reverse=True) and found.best.kept > 0.9
    assert found.tried[-1].why == "the weights leave no room for a cache"
    assert str(found.best.parallel) in found.why and "next is" in found.why


def test_of_equal_plans_the_one_whose_ranks_talk_least_is_taken() -> None:
    trace = [Arrival(0.0, 10, 10)]
    ways = [Way(Parallel(degree, 1, 1), engine(1), Limits(1000)) for degree in (8, 2, 4)]

    assert compare(trace, ways, {}).best.parallel.tensor == 2


def test_a_trace_that_no_plan_holds_is_refused_with_each_plans_reason() -> None:
    ways = [Way(Parallel(1, 1, 2), engine(1), Limits(64)), Way(Parallel(2, 1, 1), engine(2), Limits(0))]

    with pytest.raises(InputError) as caught:
        compare([Arrival(0.0, 100, 1)], ways, {})

    assert caught.value.faults == (
        "2 copies at degree 1: a request of 100 tokens in and 1 out does not fit the cache of 64 tokens",
        "1 copy at degree 2: the weights leave no room for a cache",
    )


def test_a_simulated_second_is_cheap() -> None:
    trace = poisson(2000, 20, 300, 150)
    timed = engine(4)
    simulate(trace[:50], timed, Limits(600_000))
    started = time.process_time()

    simulate(trace, timed, Limits(600_000))

    tokens = sum(each.input_tokens + each.output_tokens for each in trace)
    assert tokens / (time.process_time() - started) > 200_000  # ten times that on an idle core


def test_coefficients_that_cost_more_take_longer() -> None:
    trace = poisson(50, 2, 100, 50)

    fast = simulate(trace, engine(4), Limits(600_000)).latency_s[50]

    assert simulate(trace, engine(4, replace(POINT, step=1e-4)), Limits(600_000)).latency_s[50] > fast
