"""sagemaker-runtime of the embedded AWS, asked by unmodified boto3."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.embedded import Embedded
from tests.local_stack import stack
from tests.served import eventually

pytestmark = pytest.mark.slow

NAME = "invoke"


@pytest.fixture(scope="module")
def aws(local_aws: Embedded) -> Iterator[Embedded]:
    """The embedded AWS with one endpoint."""
    assert local_aws.deploy(NAME, stack(NAME, {"MODEL_NAME": "a"})).status == "CREATE_COMPLETE"
    yield local_aws
    local_aws.destroy(NAME)


def invoke(aws: Embedded, asked: dict[str, Any], **given: Any) -> dict[str, Any]:
    """boto3's reply to a unary invocation."""
    runtime = aws.client("sagemaker-runtime")
    reply: dict[str, Any] = runtime.invoke_endpoint(EndpointName=NAME, Body=json.dumps(asked), **given)
    return reply


def stream(aws: Embedded, asked: dict[str, Any]) -> Any:
    """boto3's reply to a streaming invocation."""
    return aws.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName=NAME, ContentType="application/json", Body=json.dumps(asked)
    )


def test_an_invocation_carries_what_sagemaker_forwards_and_nothing_else(aws: Embedded) -> None:
    reply = invoke(
        aws,
        {"x": "é"},
        ContentType="application/json",
        Accept="application/json",
        CustomAttributes="id=7",
        SessionId="s",
    )

    body = json.load(reply["Body"])
    assert body["asked"] == {"x": "é"}
    assert (reply["ContentType"], reply["InvokedProductionVariant"]) == ("application/json", "AllTraffic")
    assert reply["CustomAttributes"] == "trace=1"
    headers = {name.lower(): value for name, value in body["headers"].items()}
    assert headers.keys() == {
        *("host", "accept-encoding", "content-length", "content-type", "accept"),
        *("x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-session-id"),
    }
    assert headers["x-amzn-sagemaker-custom-attributes"] == "id=7"


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (503, "server")])
def test_an_error_of_the_model_is_a_model_error_with_its_status_and_words(
    aws: Embedded, status: int, side: str
) -> None:
    with pytest.raises(ClientError) as raised:
        invoke(aws, {"status": status})

    reply = raised.value.response
    assert reply["Error"]["Code"] == "ModelError"
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert reply["OriginalStatusCode"] == status
    assert json.loads(reply["OriginalMessage"])["asked"] == {"status": status}
    assert f"Received {side} error ({status}) from AllTraffic" in str(raised.value)


def test_a_stream_brings_each_part_when_it_is_made(aws: Embedded, tmp_path: Path) -> None:
    seen, parts = tmp_path / "seen", []
    reply = stream(aws, {"stream": ["Hel", "lo ", "wörld"], "until": str(seen)})

    with closing(reply["Body"]) as body:
        for event in body:
            parts.append(event["PayloadPart"]["Bytes"])
            seen.touch()  # only now is there more

    assert reply["ContentType"] == "application/jsonlines"
    assert parts == [b"H", b"el", b"l", b"o ", b"w\xc3", b"\xb6rld"]  # cut where it hurts


def test_a_stream_that_breaks_ends_in_a_model_stream_error(aws: Embedded) -> None:
    parts = []

    with (
        closing(stream(aws, {"stream": ["a", "b", "c"], "break_after": 2})["Body"]) as body,
        pytest.raises(EventStreamError, match="ModelStreamError") as raised,
    ):
        for event in body:
            parts.append(event["PayloadPart"]["Bytes"])

    assert b"".join(parts) == b"ab"
    assert "the stream broke" in str(raised.value)


def test_a_caller_who_hangs_up_cancels_the_generation(aws: Embedded) -> None:
    reply = stream(aws, {"stream": ["x"] * 100_000, "pause": 0.02})  # for half an hour
    next(iter(reply["Body"]))

    reply["Body"].close()

    said = eventually(lambda: json.load(invoke(aws, {})["Body"])["files"].get("cancelled"))
    assert said.startswith("after ")


def test_forty_streams_at_once_all_arrive(aws: Embedded) -> None:
    aws.client("sagemaker-runtime")

    def one(number: int) -> bytes:
        with closing(stream(aws, {"stream": [str(number), "-", "end"], "pause": 0.1})["Body"]) as parts:
            return b"".join(event["PayloadPart"]["Bytes"] for event in parts)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(one, range(40)))

    assert answers == [f"{number}-end".encode() for number in range(40)]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"EndpointName": "nobody"}, "Endpoint nobody not found"),
        ({"EndpointName": NAME, "TargetVariant": "Other"}, "has no variant 'Other'"),
        ({"EndpointName": NAME, "TargetModel": "m.tar.gz"}, "serves one model: leave out TargetModel"),
    ],
)
def test_a_wrong_address_is_refused(aws: Embedded, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ClientError, match=sentence) as raised:
        aws.client("sagemaker-runtime").invoke_endpoint(Body=b"{}", **given)

    assert raised.value.response["Error"]["Code"] == "ValidationError"


def test_a_request_beyond_six_mebibytes_is_refused_before_the_model_sees_it(aws: Embedded) -> None:
    with pytest.raises(ClientError, match="more than 6291456 bytes") as raised:
        invoke(aws, {"x": "y" * 6_291_456})

    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


@pytest.mark.parametrize(
    "header",
    [
        {"Host": "attacker.example:4566"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Referer": "https://attacker.example/"},
    ],
)
def test_a_page_in_the_users_browser_reaches_nothing(aws: Embedded, header: dict[str, str]) -> None:
    form = b"Action=DeleteStack&Version=2010-05-15&StackName=invoke"
    request = urllib.request.Request(f"http://127.0.0.1:{aws.running.port}/", form, header)

    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request)

    raised.value.close()
    assert raised.value.code == 403
    assert aws.client("sagemaker").describe_endpoint(EndpointName=NAME)["EndpointStatus"] == "InService"


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_object_is_the_callers_fault(aws: Embedded, body: bytes) -> None:
    target = {"X-Amz-Target": "SageMaker.DescribeEndpoint"}
    request = urllib.request.Request(f"http://127.0.0.1:{aws.running.port}/", body, target)

    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request)

    with raised.value as reply:
        assert (reply.code, json.load(reply)["__type"]) == (400, "SerializationException")
