"""Streams over real HTTP, the runtime's and SageMaker's: their tokens' times, and every way to break. Not what is read
of their bytes: test_benchmark_stream.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from heavylift.benchmark.client import HttpClient, InvocationFailed, SageMakerClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.local.plugin import eventstream
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint, right_answers
from tests.test_benchmark_load import P90, run

PAUSE = 0.002
"""Seconds before each part."""


def token_stream(body: bytes) -> list[bytes]:
    """The right answer in LMI's form, a word a token."""
    asked = json.loads(body)
    assert asked["stream"] is True and isinstance(asked["inputs"], str)
    answer = json.loads(right_answers({"inputs": [asked["inputs"]]}).body)["outputs"][0]
    words = answer.split(" ")
    texts = [words[0], *(f" {word}" for word in words[1:])]
    events: list[dict[str, Any]] = [{"token": {"id": 1, "text": text}} for text in texts]
    events[-1]["details"] = {"finish_reason": "eos_token", "generated_tokens": len(texts), "input_length": 3}
    return [json.dumps(event).encode() + b"\n" for event in events]


def streaming(number: int, body: bytes) -> Reply:
    return Reply(200, parts=tuple((PAUSE, line) for line in token_stream(body)))


def check_streamed(recording: Recording) -> None:
    for sample in recording.samples:
        assert sample.ok, sample.error
        assert len(sample.rows) == 1 and sample.rows[0].correct
        assert sample.first_byte_s is not None and sample.first_token_s is not None and sample.gaps_us is not None
        assert sample.sent_s < sample.first_byte_s <= sample.first_token_s <= sample.end_s
        assert len(sample.gaps_us) + 1 == sample.rows[0].generated_tokens
        last = 1e6 * (sample.first_token_s - sample.sent_s) + sum(sample.gaps_us)
        assert last >= 0.9 * 1e6 * PAUSE * sample.rows[0].generated_tokens, "no token can be there before it is sent"
    report = build_report(recording, judge(recording), samples="x")
    assert report["ttft_ms"]["p50"] < report["latency_ms"]["p50"]
    assert report["attribution_ms"]["first_byte"] > 0
    assert Recording.decode(recording.encode()) == recording


STREAMED: dict[str, Any] = {
    "stream": True,
    "warmup_requests": 2,
    "requests": 30,
    "slo": [*P90, {"metric": "ttft", "percentile": 90, "max_ms": 60_000}],
}


def test_a_stream_over_http_has_its_tokens_times() -> None:
    with fake_endpoint(streaming) as server:
        recording = run(server, **STREAMED)

    check_streamed(recording)
    assert judge(recording).verdict == "PASS"
    assert len(server.connections) == 1, "a stream that was read to its end leaves its connection open"


def frames(*parts: bytes, pause: float = PAUSE) -> Reply:
    return Reply(
        200,
        headers={"Content-Type": "application/vnd.amazon.eventstream"},
        parts=tuple((pause, part) for part in parts),
    )


def test_a_stream_of_sagemaker_has_its_tokens_times(aws: pytest.MonkeyPatch) -> None:
    def script(number: int, body: bytes) -> Reply:
        return frames(*map(eventstream.part, token_stream(body)))

    with fake_endpoint(script) as server:
        aws.setenv("AWS_ENDPOINT_URL", server.url)
        benchmark = Benchmark.from_dict(benchmark_document(**STREAMED))
        recording = measure(benchmark, SageMakerClient("tiny-t5", concurrency=1), run="r", endpoint="tiny-t5")

    assert server.heard[0][1] == "/endpoints/tiny-t5/invocations-response-stream"
    check_streamed(recording)


@pytest.mark.parametrize(
    ("kind", "code"), [("ModelStreamError", "StreamBroken"), ("InternalStreamFailure", ""), ("ModelStreamError", "x")]
)
def test_a_stream_that_breaks_midway_is_a_typed_failure_never_a_retry(
    aws: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    broken = frames(eventstream.part(b'{"token": {"text": "a"}}\n'), eventstream.failure(kind, "out of memory", code))

    with fake_endpoint(lambda n, body: broken) as server:
        aws.setenv("AWS_ENDPOINT_URL", server.url)
        parts = SageMakerClient("tiny-t5", concurrency=1).stream(b"{}")
        assert next(parts) == b'{"token": {"text": "a"}}\n'
        with pytest.raises(InvocationFailed) as caught:
            next(parts)

    assert (caught.value.kind, caught.value.http_status) == ("stream", 200)
    assert kind in caught.value.message
    assert len(server.heard) == 1


def test_a_connection_that_drops_within_a_stream_is_a_failure(aws: pytest.MonkeyPatch) -> None:
    line = b'{"token": {"text": "a"}}\n'
    frame = eventstream.part(line)
    halves = (frame[: len(frame) // 2], frame + frame[: len(frame) // 2], line)

    with fake_endpoint(lambda n, body: Reply(200, parts=((0.0, line),), drop=True)) as server:
        with HttpClient(server.url) as client, pytest.raises(InvocationFailed) as caught:
            list(client.stream(b"{}"))
        assert caught.value.kind == "stream"
    for half in halves:
        with fake_endpoint(lambda n, body, part=half: replace(frames(part), drop=True)) as server:  # type: ignore[misc]
            aws.setenv("AWS_ENDPOINT_URL", server.url)
            with pytest.raises(InvocationFailed) as caught:
                list(SageMakerClient("tiny-t5", concurrency=1).stream(b"{}"))
        assert caught.value.kind in ("connection", "stream")


@pytest.mark.parametrize("status", [424, 503])
def test_a_stream_that_is_refused_is_told_by_its_status(status: int) -> None:
    with fake_endpoint(lambda n, body: Reply(status, b"no")) as server, HttpClient(server.url) as client:
        for _ in range(2):
            with pytest.raises(InvocationFailed) as caught:
                list(client.stream(b"{}"))
            assert caught.value.http_status == status

    assert len(server.connections) == 1
