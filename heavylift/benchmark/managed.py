"""SageMaker's own benchmark job as the engine of a run: what it is asked, and its records as our samples.

Not a judge: CreateAIBenchmarkJob measures with NVIDIA's AIPerf and says no verdict; ours is made of its records, by the
same rules. What the job takes: SageMaker developer guide, "Benchmark generative AI inference endpoints" and "Set up a
workload configuration". Its records: AIPerf, "Working with Profile Export Files", profile_export.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from heavylift.benchmark.load import ClosedLoad
from heavylift.benchmark.samples import Recording, Row, Run, Sample
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark

RECORDS = "profile_export.jsonl"
KINDS = {429: "throttled", 424: "model", 503: "unavailable"}
NEEDS_ANSWERS = ("quality", "batch_invariance", "load_invariance")


def workload_config(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """CreateAIWorkloadConfig's parameters. Raises FormatError with all of the benchmark that the job cannot do."""
    if found := list(_faults(benchmark)):
        raise FormatError(found)
    assert isinstance(benchmark.workload, dict) and isinstance(benchmark.load, ClosedLoad)
    asked, words = benchmark.workload["synthetic"], "prompt_words"
    spec = {
        "benchmark": {"type": "aiperf"},
        "parameters": {
            "prompt_input_tokens_mean": sum(asked[words]) // 2,
            "prompt_input_tokens_stddev": (asked[words][1] - asked[words][0]) // 4,
            "output_tokens_mean": sum(asked["new_tokens"]) // 2,
            "output_tokens_stddev": (asked["new_tokens"][1] - asked["new_tokens"][0]) // 4,
            "concurrency": benchmark.load.concurrency,
            "request_count": benchmark.plan.most_requests,
            "streaming": benchmark.stream,
        },
    }
    text = json.dumps(spec, sort_keys=True)
    return {
        "AIWorkloadConfigName": name,
        "AIWorkloadConfigs": {"WorkloadSpec": {"Inline": text}},
    }


def job(*, name: str, config: str, endpoint: str, output_uri: str, role_arn: str) -> dict[str, Any]:
    """CreateAIBenchmarkJob's parameters; `config` is the workload config's name."""
    return {
        "AIBenchmarkJobName": name,
        "BenchmarkTarget": {"Endpoint": {"Identifier": endpoint}},
        "OutputConfig": {"S3OutputLocation": output_uri},
        "AIWorkloadConfigIdentifier": config,
        "RoleArn": role_arn,
    }


def _faults(benchmark: Benchmark) -> Iterator[str]:
    if benchmark.api != "openai-chat":
        yield f"the job speaks OpenAI's chat API only; benchmark.api is {benchmark.api}"
    if not isinstance(benchmark.workload, dict) or "synthetic" not in benchmark.workload:
        yield "the job makes its own prompts: benchmark.workload must be synthetic"
    if not isinstance(benchmark.load, ClosedLoad):
        yield "the job's load is closed: benchmark.load.mode must be closed"
    for metric in dict.fromkeys(target.metric for target in benchmark.slo if target.metric in NEEDS_ANSWERS):
        yield f"the job knows no right answers, so that {metric} cannot be judged; leave it out"


def recording(
    lines: bytes, benchmark: Benchmark, *, run: str, endpoint: str, endpoint_config: str | None, observed: str | None
) -> Recording:
    """The job's records as a run of `benchmark`, in order of sending; a request is due when AIPerf issues its credit,
    where its version tells. Raises FormatError with the lines that are no records."""
    records, faults = [], []
    for number, line in enumerate(filter(bytes.strip, lines.splitlines()), start=1):
        try:
            document = json.loads(line)
            if document["metadata"].get("benchmark_phase", "profiling") == "profiling":
                records.append(_record(document))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            faults.append(f"line {number} is no record of AIPerf's: {type(error).__name__}: {error}")
    if not records and not faults:
        faults.append("there are no records")
    if faults:
        raise FormatError(faults[:20])
    origin = min(due for due, _, _ in records)
    ordered = sorted(records, key=lambda each: each[:2])
    samples = tuple(
        _sample(index, (due - origin) / 1e9, (start - origin) / 1e9, rest)
        for index, (due, start, rest) in enumerate(ordered)
    )
    about = Run(
        run=run,
        endpoint=endpoint,
        endpoint_config=endpoint_config,
        observed_endpoint_config=observed,
        gate_digest=None,
        benchmark=benchmark,
        workload_digest="made by the job",
        started_at=datetime.fromtimestamp(origin / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        time_limit_s=benchmark.max_seconds,
        generator="SageMaker AIBenchmarkJob (NVIDIA AIPerf)",
        plan=benchmark.plan,
        stopped="planned" if len(samples) >= benchmark.plan.most_requests else "time",
    )
    return Recording(about, samples)


def _record(document: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """(due and start in ns since the epoch, the rest), checked."""
    metadata, metrics, error = document["metadata"], document.get("metrics") or {}, document.get("error")
    values = {name: metrics[name]["value"] for name in metrics}
    rest = {
        "seconds": (int(metadata["request_end_ns"]) - int(metadata["request_start_ns"])) / 1e9,
        "error": None if error is None else (error.get("code"), str(error.get("message", error.get("type")))),
        "first": _ms(values, "time_to_first_token"),
        "latency": _ms(values, "request_latency"),
        "gaps": [round(float(gap) * 1000) for gap in values.get("inter_chunk_latency", ())],
        "prompt": _count(values, "input_sequence_length"),
        "generated": _count(values, "output_sequence_length"),
    }
    if error is None and rest["latency"] is None:
        raise ValueError("it has neither a request_latency nor an error")
    start = int(metadata["request_start_ns"])
    return min(start, int(metadata.get("credit_issued_ns", start))), start, rest


def _sample(index: int, due: float, start: float, record: dict[str, Any]) -> Sample:
    due, start, latency = round(due, 6), round(start, 6), record["latency"]
    row = Row("synthetic", record["prompt"], record["generated"], None, None, None)
    if record["error"] is not None:
        code, message = record["error"]
        status = code if isinstance(code, int) and 100 <= code < 600 else None
        kind = KINDS.get(code, "server" if status is not None and status >= 500 else "refused" if status else "timeout")
        error = {"kind": kind, "message": message[:500]}
        end = round(start + max(0.0, record["seconds"]), 6)
        failed = "timeout" if kind == "timeout" else "error"
        return Sample(index, "measure", due, start, end, failed, status, error, (row,))
    first = record["first"]
    return Sample(
        index, "measure", due, start, round(start + latency / 1000, 6), "ok", 200, None, (row,),
        first_byte_s=None if first is None else round(start + first / 1000, 6),
        first_token_s=None if first is None else round(start + first / 1000, 6),
        gaps_us=None if first is None else tuple(record["gaps"]),
    )  # fmt: skip


def _ms(values: dict[str, Any], name: str) -> float | None:
    return None if name not in values else float(values[name])


def _count(values: dict[str, Any], name: str) -> int | None:
    return None if name not in values else int(values[name])
