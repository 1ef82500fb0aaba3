"""The benchmark's JSON string: what is read, what is refused. Not what a plan writes into it (test_plan)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.slo import METRICS
from heavylift.benchmark.spec import Benchmark
from tests.benchmark_documents import benchmark_document


def test_a_benchmark_survives_its_json() -> None:
    benchmark = Benchmark.from_dict(benchmark_document())

    text = benchmark.to_json()

    assert Benchmark.from_json(text) == benchmark
    assert json.loads(text) == benchmark_document()


def test_equal_benchmarks_give_equal_bytes_whatever_the_order_of_keys() -> None:
    document = benchmark_document()
    turned = dict(reversed(document.items()))

    assert Benchmark.from_dict(document).to_json() == Benchmark.from_dict(turned).to_json()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "heavylift.benchmark/2"}, "benchmark.format is 'heavylift.benchmark/2'; allowed: heavylift.benchm"),
        ({"shards": 2}, "benchmark has the unknown key 'shards'"),
        ({"requests": 0}, "benchmark.requests is 0; it must be at least 1"),
        ({"requests": True}, "benchmark.requests is true; it must be a JSON integer"),
        ({"max_seconds": float("nan")}, "benchmark.max_seconds is nan; it must be at least 1"),
        ({"workload": "../secrets"}, "benchmark.workload is '../secrets'; it must match"),
        ({"load": {"mode": "half", "concurrency": 1}}, "load.mode is 'half'; allowed: closed, open"),
        ({"load": {"mode": "open"}}, "load.arrivals is None; allowed: poisson, constant, gamma, ramp, trace"),
        ({"load": {"mode": "open", "arrivals": "poisson"}}, "load has no rate"),
        ({"load": {"mode": "open", "arrivals": "poisson", "rate": 0}}, "load.rate is 0; it must be at least 0.001"),
        ({"load": {"mode": "open", "arrivals": "poisson", "rate": 1, "cv": 2}}, "load has the unknown key 'cv'"),
        ({"load": {"mode": "open", "arrivals": "trace", "times_s": [2, 1]}}, "load.times_s must be at least two times"),
        ({"requests": "many"}, "benchmark.requests is \"many\"; it must be a JSON integer or 'auto'"),
        ({"warmup": {"until": "stationary"}}, "warmup has no window"),
        ({"stream": 1}, "benchmark.stream is 1; it must be a JSON boolean"),
        ({"slo": [{"metric": "p99"}]}, "slo[0].metric is 'p99'; allowed: e2e_latency, error_rate, quality, tokens"),
        (
            {"slo": [{"metric": "quality", "min": 1, "confidence": 1}]},
            "slo[0].confidence is 1; it must be at most 0.99",
        ),
        ({"slo": [{"metric": "quality", "min": 95}]}, "slo[0].min is 95; it must be at most 1"),
        ({"slo": [{"metric": "error_rate", "min": 0}]}, "slo[0] has no max"),
        ({"on_fail": "ignore"}, "benchmark.on_fail is 'ignore'; allowed: rollback, hold, warn"),
        ({"subject": 3}, "benchmark.subject is 3; it must be a JSON object"),
    ],
)
def test_a_wrong_benchmark_is_refused_with_a_sentence(change: dict[str, Any], sentence: str) -> None:
    document = benchmark_document(**change)

    with pytest.raises(FormatError) as caught:
        Benchmark.from_dict(document)

    assert any(fault.startswith(sentence) for fault in caught.value.faults), caught.value.faults


def test_all_faults_are_told_at_once() -> None:
    document = benchmark_document(requests=0, slo=[{"metric": "quality"}, {"metric": "p99"}])
    del document["seed"], document["subject"]["model"]

    with pytest.raises(FormatError) as caught:
        Benchmark.from_dict(document)

    assert caught.value.faults == (
        "benchmark has no seed",
        "benchmark.requests is 0; it must be at least 1",
        "subject has no model",
        "slo[0] has no min",
        f"slo[1].metric is 'p99'; allowed: {', '.join(METRICS)}",
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Benchmark.from_json(text)
