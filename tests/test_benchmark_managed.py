"""SageMaker's own benchmark job as the engine: its parameters, a job's life, AIPerf's records under our verdict.

The records are real: AIPerf 0.13.0 against benchmarks/scripted/endpoint.py (8 tokens, the first after 50 ms, then one
every 5 ms), with AIPerf's own summary of them beside.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from moto import mock_aws

from heavylift.benchmark import managed
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.commands.managed import measured_by_job
from heavylift.errors import HeavyliftError, InputError
from tests.benchmark_documents import benchmark_document

GOLDEN = Path(__file__).parent / "golden" / "aiperf"
RECORDS = gzip.decompress((GOLDEN / "profile_export.jsonl.gz").read_bytes())
SLO = [
    {"metric": "ttft", "percentile": 50, "max_ms": 60.0},
    {"metric": "itl", "percentile": 50, "max_ms": 7.0},
    {"metric": "service_latency", "percentile": 50, "max_ms": 100.0},
    {"metric": "error_rate", "max": 0.0, "tolerance": 0.15},  # 20 requests can say no more
]


def asked(**changes: Any) -> Benchmark:
    workload = {"synthetic": {"prompt_words": [100, 300], "new_tokens": [8, 8]}}
    load = {"mode": "closed", "concurrency": 2}
    document = benchmark_document(
        workload=workload, load=load, api="openai-chat", stream=True, requests=20, slo=SLO, warmup_requests=0
    )
    return Benchmark.from_dict(document | changes)


def read(lines: bytes = RECORDS, benchmark: Benchmark | None = None) -> Recording:
    made = asked() if benchmark is None else benchmark
    return managed.recording(lines, made, run="r", endpoint="e", endpoint_config="c", observed="c")


def faults(operation: str, parameters: dict[str, Any]) -> str:
    model = botocore.session.get_session().get_service_model("sagemaker").operation_model(operation)
    return str(ParamValidator().validate(parameters, model.input_shape).generate_report())


def test_botocore_accepts_what_the_job_is_asked() -> None:
    config = managed.workload_config(asked(), "tiny-t5")
    job = managed.job(
        name="run-1", config="tiny-t5", endpoint="tiny-t5", output_uri="s3://bucket/runs/",
        role_arn="arn:aws:iam::123456789012:role/benchmark",
    )  # fmt: skip

    assert faults("CreateAIWorkloadConfig", config) == faults("CreateAIBenchmarkJob", job) == ""
    spec = json.loads(config["AIWorkloadConfigs"]["WorkloadSpec"]["Inline"])
    assert spec["benchmark"] == {"type": "aiperf"}
    assert spec["parameters"]["prompt_input_tokens_mean"] == 200
    assert (spec["parameters"]["concurrency"], spec["parameters"]["request_count"]) == (2, 20)


def test_our_percentiles_of_the_records_are_aiperfs_own() -> None:
    summary = json.loads((GOLDEN / "summary.json").read_text())

    recording = read()
    report = build_report(recording, judge(recording), samples="s")

    ttft = [((sample.first_token_s or 0) - sample.sent_s) * 1000 for sample in recording.measured]
    for point in (50, 90, 99):
        assert percentile(ttft, point) == pytest.approx(summary["time_to_first_token"][f"p{point}"], abs=0.002)
        for ours, theirs in (("service_ms", "request_latency"), ("tpot_ms", "inter_token_latency")):
            wanted = summary[theirs][f"p{point}"]
            assert report[ours][f"p{point}"] == pytest.approx(wanted, abs=0.002), (ours, point)
    assert all(0 <= sample.lag_ms < 20 for sample in recording.measured), "ours count from when a request was due"


def test_the_records_are_judged_as_any_run() -> None:
    recording = read()

    assert len(recording.measured) == 20, "the job's own warm-up is in no number"
    assert judge(recording).verdict == "PASS"
    assert judge(read(benchmark=asked(slo=[{"metric": "ttft", "percentile": 50, "max_ms": 1.0}]))).verdict == "FAIL"
    assert Recording.decode(recording.encode()) == recording
    assert {len(sample.gaps_us or ()) for sample in recording.measured} == {7}
    assert all(sample.intended_s <= sample.sent_s < (sample.first_token_s or 0) for sample in recording.measured)


def test_a_request_that_failed_is_an_error_not_a_gap() -> None:
    rows = RECORDS.splitlines()
    failed = json.loads(rows[-1]) | {"metrics": {}, "error": {"code": 503, "type": "HTTPError", "message": "busy"}}

    recording = read(b"\n".join([*rows[:-1], json.dumps(failed).encode()]))

    assert [sample.error for sample in recording.measured if not sample.ok] == [
        {"kind": "unavailable", "message": "busy"}
    ]
    assert judge(recording).verdict == "FAIL", "an error rate of 0 was asked for"


def test_fewer_records_than_asked_for_are_void() -> None:
    assert judge(read(b"\n".join(RECORDS.splitlines()[:12]))).verdict == "VOID"


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"metadata": {}}', b'{"metadata": {"request_start_ns": "x"}}'])
def test_lines_that_are_no_records_are_told_by_their_number(line: bytes) -> None:
    with pytest.raises(FormatError, match="line 23 is no record of AIPerf's"):
        read(RECORDS + line)


def test_what_the_job_cannot_do_is_told_at_once() -> None:
    with pytest.raises(FormatError) as caught:
        managed.workload_config(Benchmark.from_dict(benchmark_document()), "x")

    assert len(caught.value.faults) == 3
    assert "speaks OpenAI's chat API only" in str(caught.value) and "quality cannot be judged" in str(caught.value)


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    return boto3.client("sagemaker")


def job_of(status: str, name: str, **rest: Any) -> dict[str, Any]:
    arn = "arn:aws:sagemaker:us-east-1:123456789012"
    return {
        "AIBenchmarkJobName": name, "AIBenchmarkJobArn": f"{arn}:ai-benchmark-job/{name}", "CreationTime": 0,
        "AIBenchmarkJobStatus": status, "BenchmarkTarget": {"Endpoint": {"Identifier": "tiny-t5"}},
        "OutputConfig": {"S3OutputLocation": "s3://results/runs/"}, "AIWorkloadConfigIdentifier": name,
        "RoleArn": "arn:aws:iam::123456789012:role/benchmark", **rest,
    }  # fmt: skip


@pytest.mark.parametrize(("last", "words"), [("Completed", None), ("Failed", "no capacity")])
def test_a_jobs_life(sagemaker: Any, monkeypatch: pytest.MonkeyPatch, last: str, words: str | None) -> None:
    name, arn = "heavylift-20261121t000000z-adhoc", "arn:aws:sagemaker:us-east-1:123456789012"
    endpoint = {"EndpointName": "tiny-t5", "EndpointArn": f"{arn}:endpoint/tiny-t5", "EndpointStatus": "InService",
                "EndpointConfigName": "config-1", "CreationTime": 0, "LastModifiedTime": 0}  # fmt: skip
    pauses: list[float] = []
    with mock_aws(), Stubber(sagemaker) as stub:
        real = boto3.client
        monkeypatch.setattr(
            boto3, "client", lambda kind, **rest: sagemaker if kind == "sagemaker" else real(kind, **rest)
        )
        boto3.client("s3").create_bucket(Bucket="results")
        boto3.client("s3").put_object(Bucket="results", Key=f"runs/{name}/a/{managed.RECORDS}", Body=RECORDS)
        stub.add_response("describe_endpoint", endpoint)
        stub.add_response("create_ai_workload_config", {"AIWorkloadConfigArn": f"{arn}:ai-workload-config/{name}"})
        stub.add_response("create_ai_benchmark_job", {"AIBenchmarkJobArn": f"{arn}:ai-benchmark-job/{name}"})
        stub.add_response("describe_ai_benchmark_job", job_of("InProgress", name))
        stub.add_response(
            "describe_ai_benchmark_job", job_of(last, name, **({} if words is None else {"FailureReason": words}))
        )
        if words is None:
            stub.add_response("describe_endpoint", endpoint)

        def measured() -> Recording:
            return measured_by_job(
                asked(), run="20261121T000000Z-adhoc", endpoint="tiny-t5", output_uri="s3://results/runs/",
                role_arn="arn:aws:iam::123456789012:role/benchmark", pause=pauses.append,
            )  # fmt: skip

        if words is None:
            assert judge(measured()).verdict == "PASS"
        else:
            with pytest.raises(HeavyliftError, match=words):
                measured()
        stub.assert_no_pending_responses()

    assert pauses == [15.0]


def test_an_output_that_is_not_in_s3_is_refused_before_anything_is_started() -> None:
    with pytest.raises(InputError, match="it must be where the job writes"):
        measured_by_job(asked(), run="r", endpoint="e", output_uri="runs/", role_arn="arn")
