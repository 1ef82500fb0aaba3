"""A trace replayed: each line's prompt, or one of its length, at the line's time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.run import measure
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.benchmark.workload import Workload, packed
from heavylift.cli import main
from heavylift.errors import InputError
from heavylift.plan.simulate import read_trace
from heavylift.spec import ModelSpec
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint

TRACE = [{"arrival_s": 10 + 0.05 * n, "input_tokens": 3 + n, "output_tokens": 2 + n % 3} for n in range(8)]
LOAD = {"mode": "open", "arrivals": "trace"}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def replay(**changes: Any) -> Benchmark:
    document = benchmark_document(workload=packed("t.jsonl", lines(TRACE)), load=LOAD, requests=16, slo=[])
    return Benchmark.from_dict(document | changes)


def echoing(number: int, body: bytes) -> Reply:
    asked = json.loads(body)
    count = {"finish_reason": "length", "prompt_tokens": 5, "generated_tokens": asked["parameters"]["max_new_tokens"]}
    return Reply(200, json.dumps({"outputs": ["one"], "details": [count]}).encode())


def test_a_trace_is_replayed_line_by_line_at_its_times_and_begins_again() -> None:
    with fake_endpoint(echoing) as server, HttpClient(server.url) as client:
        recording = measure(replay(warmup_requests=2), client, run="r", endpoint="e")

    measured = recording.measured
    gaps = [round(b.intended_s - a.intended_s, 4) for a, b in pairwise(measured)]
    assert gaps == [0.05] * 15, "after the last line one mean gap, then the first"
    assert [sample.rows[0].generated_tokens for sample in measured] == [row["output_tokens"] for row in TRACE] * 2
    assert [sample.rows[0].example for sample in measured] == [*range(1, 9)] * 2
    asked = [len(json.loads(body)["inputs"][0].split()) for _, _, _, body in server.heard]  # a busy machine mixes them
    assert set(asked) == {row["input_tokens"] for row in TRACE}
    assert judge(recording).verdict in ("PASS", "VOID"), "void where this machine was late"


def test_a_traces_own_prompts_and_answers_are_asked_in_order() -> None:
    rows = [
        {"task": "t", "input": f"prompt {n}", "answer": "one", "arrival_s": (7 - n) * 0.02, "new_tokens": 4}
        for n in range(8)
    ]

    workload = Workload.parse("t", lines(rows))
    order = [next(iter(batch)).input for batch, _ in zip(workload.in_order(), range(8), strict=False)]

    assert order == [f"prompt {n}" for n in reversed(range(8))]
    assert workload.times_s == pytest.approx([0.02 * n for n in range(8)])


def test_the_same_file_is_simulated_and_replayed(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(lines(TRACE))

    simulated = read_trace(tmp_path / "t.jsonl")

    assert [each.arrival_s - 10 for each in simulated] == pytest.approx(list(Workload.parse("t", lines(TRACE)).times_s))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"task": "t", "input": "a"}, *TRACE], "each line needs its 'arrival_s'"),
        ([TRACE[0]] * 3, "and not all the same"),
        ([{**TRACE[0], "arrival_s": -1}], "at least 0"),
        ([{**TRACE[0], "prompt": "x"}], "unknown key 'prompt'"),
    ],
)
def test_what_is_no_trace_is_refused(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        _ = Workload.parse("t", lines(rows)).times_s


def test_a_trace_without_times_needs_prompts_that_have_them(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"load\.times_s is missing"):
        replay(workload="four-tasks")

    file = tmp_path / "x.yaml"
    slo = "slo: [{metric: e2e_latency, percentile: 50, max_ms: 500}]"
    text = "name: x\nmodel: {{path: x}}\nbenchmark: {{workload: {}, load: {{mode: open, arrivals: trace}}, {}}}\n"
    file.write_text(text.format("four-tasks", slo))
    with pytest.raises(InputError, match="trace needs 'times_s', or a"):
        ModelSpec.from_yaml(file)

    file.write_text(text.format("{dataset: t.jsonl}", slo))
    assert ModelSpec.from_yaml(file).benchmark is not None


def test_a_benchmark_with_a_trace_survives_its_json() -> None:
    asked = replay()

    assert Benchmark.from_json(asked.to_json()) == asked
    assert asked.batch == 1


@pytest.mark.slow
def test_bench_replays_a_file_against_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = Path(__file__).resolve().parent.parent / "models"
    (tmp_path / "t.jsonl").write_bytes(lines(TRACE))

    with fake_endpoint(echoing) as server:
        command = ["bench", str(models / "tiny-t5.yaml"), "--url", server.url, "--trace", str(tmp_path / "t.jsonl")]
        main([*command, "--into", str(tmp_path / "runs"), "--json"])

    report = json.loads(capsys.readouterr().out)
    assert report["benchmark"]["load"]["arrivals"] == "trace"
    assert report["requests"]["measured"] == 8
    assert report["tokens"]["generated"] == sum(row["output_tokens"] for row in TRACE)
