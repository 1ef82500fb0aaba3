"""Where the time of a request went: the client's stations, the server's own clock, CloudWatch, and what remains."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from heavylift.benchmark.attribution import attributed
from heavylift.benchmark.client import HttpClient, SageMakerClient
from heavylift.benchmark.cloudwatch import metrics_of
from heavylift.benchmark.merge import in_sequence, side_by_side
from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.passage import ASK, Passage
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import Place
from heavylift.benchmark.verdict import judge
from heavylift.local.plugin import eventstream
from heavylift.report.page import render
from heavylift.report.stack import in_a_line, stack
from heavylift.report.table import conclusion
from tests.benchmark_documents import benchmark_document, recorded
from tests.fake_endpoint import Reply, fake_endpoint, right_answers

HEADER = "X-Amzn-SageMaker-Custom-Attributes"
TIMES = "heavylift-queue-us=1500;heavylift-first-us=21500;heavylift-total-us=30000"
TOLD = Overhead(invocations=40, model_ms=31.0, overhead_ms=2.0)
WHOLE, STREAMED = (Benchmark.from_dict(benchmark_document(stream=stream)) for stream in (False, True))


def timed(recording: Recording, *, server: bool = True) -> Recording:
    """Each request waits 1 ms, is written 1 ms later, and its head comes 40 ms after that: 30 are the server's."""
    samples = tuple(
        replace(
            sample,
            sent_s=sample.intended_s + 0.001,
            written_s=sample.intended_s + 0.002,
            head_s=sample.intended_s + 0.042,
            server_us={"queue": 1500, "first": 21500, "total": 30000} if server else None,
        )
        for sample in recording.samples
    )
    return replace(recording, samples=samples)


def parts(samples: tuple[Sample, ...], **how: Any) -> dict[str, float]:
    found = attributed(samples, **({"stream": False, "overhead": None} | how))
    assert found is not None
    assert sum(part.ms for part in found.parts) == pytest.approx(found.mean_ms, abs=1e-9)
    return {f"{part.group}: {part.name}": round(part.ms, 6) for part in found.parts}


def test_the_parts_of_a_whole_reply_add_up_to_its_mean_latency() -> None:
    samples = timed(recorded([50.0] * 4)).samples

    found = parts(samples, overhead=TOLD)

    assert found == {
        "client: waiting to be sent": 1.0,
        "client: preparing the request": 1.0,
        "network: network": 16.0,  # 40 until the head and 8 until the end, less 30 and 2
        "sagemaker: SageMaker's overhead": 2.0,
        "model: waiting for the engine": 1.5,
        "model: computing": 28.5,
    }


def test_of_a_stream_what_comes_after_its_head_is_generation() -> None:
    found = parts(timed(recorded([50.0] * 4)).samples, stream=True, overhead=TOLD)

    assert found["network: network"] == 8.0
    assert found["model: computing to the first token"] == 28.5
    assert found["model: generating the rest"] == 8.0


def test_without_cloudwatch_the_network_and_sagemaker_are_one_part_and_the_note_says_so() -> None:
    samples = timed(recorded([50.0] * 4)).samples

    found = attributed(samples, stream=False, overhead=None)

    assert found is not None
    assert [part.name for part in found.parts if part.group == "network"] == ["network and SageMaker"]
    assert "without CloudWatch's metrics" in found.note


def test_a_container_that_tells_nothing_has_its_time_from_cloudwatch() -> None:
    samples = timed(recorded([50.0] * 4), server=False).samples

    told, untold = parts(samples, overhead=TOLD), parts(samples)

    assert (told["model: computing"], told["network: network"]) == (31.0, 15.0)
    assert untold["between: network, SageMaker and model"] == 48.0


def test_an_overhead_that_is_more_than_what_remains_is_told_and_not_subtracted() -> None:
    samples = timed(recorded([50.0] * 4)).samples

    found = attributed(samples, stream=False, overhead=replace(TOLD, overhead_ms=90.0))

    assert found is not None
    assert all(part.ms >= 0 for part in found.parts)
    assert "90.00 ms, is more than what remains" in found.note


def test_samples_of_older_files_have_no_parts_and_their_pages_stand() -> None:
    recording = recorded([50.0] * 40)

    report = build_report(recording, judge(recording), samples="x")
    older = {key: value for key, value in report.items() if key != "attribution"}

    assert report["attribution"] is None and stack(older) is None and in_a_line(older) == ""
    assert "average request goes" not in render(older, recording)


def test_the_stations_and_times_survive_the_file_and_the_merging() -> None:
    recording = timed(recorded([50.0] * 4, sagemaker=TOLD))

    again = Recording.decode(recording.encode())
    legs = in_sequence([recording, recording], recording.run.benchmark)
    shards = side_by_side([recording, recording], recording.run.benchmark)

    assert again == recording
    assert legs.run.sagemaker == replace(TOLD, invocations=80) and shards.run.sagemaker == TOLD
    assert legs.samples[5].head_s == pytest.approx(legs.samples[5].intended_s + 0.042)
    assert parts(legs.samples, overhead=TOLD) == parts(recording.samples, overhead=TOLD)


@pytest.mark.parametrize("bad", [{"total": -1}, {"total": "1"}, {"total": True}])
def test_malformed_times_in_a_file_are_refused(bad: dict[str, Any]) -> None:
    recording = recorded([50.0])
    broken = replace(recording, samples=(replace(recording.samples[0], server_us=bad),))

    with pytest.raises(FormatError):
        Recording.decode(broken.encode())


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        (TIMES, {"queue": 1500, "first": 21500, "total": 30000}),
        (f"trace=7; heavylift-times;{TIMES}", {"queue": 1500, "first": 21500, "total": 30000}),
        ("heavylift-total-us=5", {"total": 5}),
        ("heavylift-queue-us=5", None),
        ("heavylift-queue-us=9;heavylift-total-us=5", None),
        ("heavylift-total-us=-5", None),
        ("heavylift-total-us=99999999999999999999", None),
        ("heavylift-other-us=5;total=3", None),
        ("", None),
    ],
)
def test_only_sound_times_are_read_out_of_custom_attributes(attributes: str, found: dict[str, int] | None) -> None:
    passage = Passage()

    passage.head(attributes)

    assert passage.server_us == found


@given(st.text())
def test_any_attributes_are_read_without_a_fault(attributes: str) -> None:
    passage = Passage()

    passage.head(attributes)

    assert passage.server_us is None or passage.server_us["total"] >= 0


def answering(number: int, body: bytes) -> Reply:
    reply = right_answers(json.loads(body))
    return replace(reply, headers={HEADER: f"{ASK};{TIMES}"})


def streaming(number: int, body: bytes) -> Reply:
    line = b'{"token": {"id": 1, "text": "one"}, "generated_text": "one", "details": {"finish_reason": "eos_token"}}\n'
    headers = {"Content-Type": "application/vnd.amazon.eventstream", HEADER: TIMES}
    return Reply(200, headers=headers, parts=((0.002, eventstream.part(line)),))


@pytest.mark.parametrize("stream", [False, True])
def test_boto3_s_replies_tell_the_server_s_times_whole_and_streamed(aws: pytest.MonkeyPatch, stream: bool) -> None:
    asked = Benchmark.from_dict(benchmark_document(requests=5, warmup_requests=0, slo=[], stream=stream))

    with fake_endpoint(streaming if stream else answering) as server:
        aws.setenv("AWS_ENDPOINT_URL", server.url)
        recording = measure(asked, SageMakerClient("e", concurrency=1), run="r", endpoint="e")

    assert server.heard[0][2][HEADER] == ASK
    for sample in recording.measured:
        assert sample.server_us == {"queue": 1500, "first": 21500, "total": 30000}
        assert sample.written_s is not None and sample.head_s is not None
        assert sample.sent_s <= sample.written_s < sample.head_s <= sample.end_s


def test_a_runtime_by_its_url_tells_its_times_too() -> None:
    asked = Benchmark.from_dict(benchmark_document(requests=3, warmup_requests=0, slo=[]))

    with fake_endpoint(answering) as server, HttpClient(server.url) as client:
        recording = measure(asked, client, run="r", endpoint=server.url)

    assert all(sample.server_us is not None for sample in recording.measured)


BEGIN = datetime(2026, 11, 20, 23, 30, 20, tzinfo=UTC)


def put(name: str, at: datetime, values: list[float], variant: str = "one") -> None:
    dimensions = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": variant}]
    data = [
        {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value, "Unit": "Microseconds"}
        for value in values
    ]
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=data)


@mock_aws
def test_cloudwatch_s_microseconds_are_weighed_by_their_counts_over_the_run_s_minutes(aws: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC).replace(second=20, microsecond=0) - timedelta(minutes=10)
    for at, model in ((now, [10_000.0]), (now + timedelta(minutes=1), [40_000.0, 40_000.0])):
        put("ModelLatency", at, model)
        put("OverheadLatency", at, [3_000.0] * len(model))
    put("ModelLatency", now - timedelta(minutes=5), [9e9])
    put("ModelLatency", now, [9e9], variant="other")

    told = metrics_of(Place("e", "c", "one"), WHOLE)(now, now + timedelta(seconds=90))

    assert told == Overhead(3, 30.0, 3.0)
    assert metrics_of(Place("e", "c", "one"), STREAMED)(now, now + timedelta(seconds=90)) is None


@mock_aws
def test_of_a_stream_the_first_chunk_s_metrics_are_asked(aws: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC) - timedelta(minutes=3)
    put("FirstChunkModelLatency", now, [20_000.0])
    put("FirstChunkOverheadLatency", now, [1_000.0])

    assert metrics_of(Place("e", "c", "one"), STREAMED)(now, now) == Overhead(1, 20.0, 1.0, first_chunk=True)


@mock_aws
def test_a_component_s_metrics_are_its_own_and_an_asynchronous_endpoint_s_are_not_asked(
    aws: pytest.MonkeyPatch,
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=3)
    put("ModelLatency", now, [9e9])
    put("OverheadLatency", now, [9e9])
    for name, value in (("ModelLatency", 20_000.0), ("OverheadLatency", 1_000.0)):
        data = {"MetricName": name, "Timestamp": now, "Value": value, "Unit": "Microseconds"}
        data["Dimensions"] = [{"Name": "InferenceComponentName", "Value": "small"}]
        boto3.client("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=[data])

    told = metrics_of(Place("e", "c"), replace(WHOLE, inference_component="small"))(now, now)

    assert told == Overhead(1, 20.0, 1.0)
    assert metrics_of(Place("e", "c", "one"), replace(WHOLE, asynchronous=True))(now, now) is None


def test_metrics_that_may_not_be_read_are_logged_and_decide_over_nothing(
    aws: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_endpoint(lambda n, body: Reply(403, b"{}")) as server:
        aws.setenv("AWS_ENDPOINT_URL", server.url)
        told = metrics_of(Place("e", "c", "one"), WHOLE)(BEGIN, BEGIN)

    assert told is None
    assert "CloudWatch's metrics of e/one could not be read" in caplog.text


def test_the_page_and_the_terminal_show_where_the_time_goes() -> None:
    recording = timed(recorded([50.0] * 40, sagemaker=TOLD))

    report = build_report(recording, judge(recording), samples="x")
    page = render(report, recording)

    assert "50.0 ms on average: client 2.0, network 16.0, SageMaker 2.0, model 30.0" in conclusion(report).plain
    assert "Where the time of an average request goes" in page and "the server&#39;s own clock" in page
    bar = stack(report)
    assert bar is not None
    assert sum(piece.width for piece in bar) == pytest.approx(640, abs=0.1)
    assert [piece.share for piece in bar][-1] == pytest.approx(0.57)
