"""The client of an asynchronous endpoint, against a scripted S3: what it sends, when it looks, how it fails."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from heavylift.benchmark.asynchronous import AsynchronousClient
from heavylift.benchmark.client import READ_TIMEOUT
from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.formulas import formula
from heavylift.benchmark.sender import sender
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import GateClosed, Place
from tests.benchmark_documents import benchmark_document

BODY = b'{"inputs": ["x"]}'
TAKEN = {"OutputLocation": "s3://results/m/1.out", "FailureLocation": "s3://results/m/failed/1-error.out"}


@dataclass
class Fakes:
    """S3 and sagemaker-runtime in one, and a clock; objects come at their time."""

    coming: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=lambda: dict(TAKEN))
    put: dict[str, bytes] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    looked: list[tuple[float, str]] = field(default_factory=list)
    refusal: str = "NoSuchKey"
    now: float = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:
        self.put[f"s3://{Bucket}/{Key}"] = Body

    def invoke_endpoint_async(self, **asked: Any) -> dict[str, str]:
        self.asked.append(asked)
        return self.taken

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        uri = f"s3://{Bucket}/{Key}"
        self.looked.append((self.now, uri))
        at, content = self.coming.get(uri, (float("inf"), b""))
        if self.now < at:
            error = {"Error": {"Code": self.refusal, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(error, "GetObject")
        return {"Body": io.BytesIO(content)}

    def client(self) -> AsynchronousClient:
        return AsynchronousClient(
            "e", results="s3://results/m/", concurrency=2, clock=lambda: self.now, pause=self.pause
        )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()
    monkeypatch.setattr(boto3, "client", lambda service, config=None: fakes)
    return fakes


def test_a_request_goes_to_s3_by_its_content_and_its_reply_is_read_from_there(aws: Fakes) -> None:
    aws.coming[TAKEN["OutputLocation"]] = (0.0, b'{"outputs": ["y"]}')

    replies = [aws.client().invoke(BODY), aws.client().invoke(BODY)]

    where = f"s3://results/m/benchmark-inputs/{hashlib.sha256(BODY).hexdigest()}.json"
    assert replies == [b'{"outputs": ["y"]}'] * 2
    assert aws.put == {where: BODY}
    assert {each["InputLocation"] for each in aws.asked} == {where}
    assert len({each["InferenceId"] for each in aws.asked}) == 2


@pytest.mark.parametrize("after", [0.0, 0.3, 2.0, 60.0])
def test_a_reply_is_seen_at_most_50_ms_or_5_percent_late_and_never_early(aws: Fakes, after: float) -> None:
    aws.coming[TAKEN["OutputLocation"]] = (after, b"{}")

    aws.client().invoke(BODY)

    assert after <= aws.now <= max(after + 0.05, after * 1.05 + 1e-9)
    assert len(aws.looked) < 220


def test_a_failure_s_object_is_the_model_s_error(aws: Fakes) -> None:
    aws.coming[TAKEN["FailureLocation"]] = (1.0, b"Received server error (500)")

    with pytest.raises(InvocationFailed, match="Received server error") as raised:
        aws.client().invoke(BODY)

    assert raised.value.kind == "model"
    assert aws.now < 2.0


def test_a_reply_that_never_comes_is_a_timeout_also_where_failures_go_nowhere(aws: Fakes) -> None:
    del aws.taken["FailureLocation"]

    with pytest.raises(InvocationFailed, match=r"no reply at s3://results/m/1\.out within 70 s") as raised:
        aws.client().invoke(BODY)

    assert raised.value.kind == "timeout"
    assert READ_TIMEOUT < aws.now < READ_TIMEOUT * 1.06


def test_a_bucket_that_may_not_be_read_is_refused_at_once(aws: Fakes) -> None:
    aws.refusal = "AccessDenied"

    with pytest.raises(InvocationFailed, match="AccessDenied") as raised:
        aws.client().invoke(BODY)

    assert (raised.value.kind, len(aws.looked)) == ("refused", 1)


def test_a_reply_that_names_no_place_is_no_reply(aws: Fakes) -> None:
    aws.taken["OutputLocation"] = "https://elsewhere"

    with pytest.raises(InvocationFailed, match="'https://elsewhere' is no s3://bucket/key"):
        aws.client().invoke(BODY)


def test_nothing_streams_through_s3(aws: Fakes) -> None:
    with pytest.raises(InvocationFailed, match="does not stream"):
        aws.client().stream(BODY)
    with pytest.raises(FormatError, match="nothing streams through S3"):
        Benchmark.from_dict(benchmark_document(stream=True, asynchronous=True))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [(None, "there is no endpoint e"), ({"EndpointName": "e"}, "the endpoint e is not asynchronous")],
)
def test_an_endpoint_of_another_kind_closes_the_gate(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, str] | None, sentence: str
) -> None:
    monkeypatch.setattr("heavylift.benchmark.sender.described", lambda name: found)

    with pytest.raises(GateClosed, match=sentence):
        sender(Benchmark.from_dict(benchmark_document(asynchronous=True)), Place("e", "c"))


def test_no_variant_of_an_asynchronous_endpoint_is_asked_alone() -> None:
    with pytest.raises(GateClosed, match="e/candidate is asked through S3, as its traffic is divided; leave out"):
        sender(Benchmark.from_dict(benchmark_document(asynchronous=True)), Place("e", "c", "candidate"))


def test_the_latencies_formula_says_that_s3_is_in_it() -> None:
    through = Benchmark.from_dict(benchmark_document(asynchronous=True))

    assert formula("e2e_latency", through).startswith("percentile (linear interpolation) of reply read from S3 - inten")
    assert "S3" not in formula("e2e_latency", Benchmark.from_dict(benchmark_document()))
    assert formula("error_rate", through) == formula("error_rate", Benchmark.from_dict(benchmark_document()))
    assert through == Benchmark.from_json(through.to_json())
