"""Both clients against a scripted server on loopback: what they send, and each way to fail."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

import heavylift.benchmark.client as client_module
from heavylift.benchmark.client import HttpClient, InvocationFailed, SageMakerClient
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, model_error

BODY = b'{"inputs": ["a"]}'


def sagemaker(server: FakeEndpoint, aws: pytest.MonkeyPatch) -> SageMakerClient:
    aws.setenv("AWS_ENDPOINT_URL", server.url)
    return SageMakerClient("tiny-t5", concurrency=2)


def failure(client: Any) -> InvocationFailed:
    with pytest.raises(InvocationFailed) as caught:
        client.invoke(BODY)
    return caught.value


def test_the_http_client_posts_to_invocations_and_keeps_its_connection() -> None:
    with fake_endpoint(lambda n, body: Reply(200, body)) as server, HttpClient(server.url) as client:
        replies = [client.invoke(BODY) for _ in range(3)]

    assert replies == [BODY] * 3
    assert [(method, path) for method, path, *_ in server.heard] == [("POST", "/invocations")] * 3
    assert server.heard[0][2]["Content-Type"] == "application/json"
    assert len(server.connections) == 1


def test_the_http_client_keeps_a_path_that_is_given() -> None:
    with fake_endpoint(lambda n, body: Reply(200)) as server, HttpClient(server.url + "/v2/invocations") as client:
        client.invoke(BODY)

    assert server.heard[0][1] == "/v2/invocations"


@pytest.mark.parametrize("url", ["", "localhost:8080", "file:///etc/passwd", "http://"])
def test_a_url_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="it must be http://host:port"):
        HttpClient(url)


@pytest.mark.parametrize(
    ("status", "kind"), [(424, "model"), (429, "throttled"), (503, "unavailable"), (400, "refused"), (500, "server")]
)
def test_the_http_client_names_what_a_status_means_and_asks_once(status: int, kind: str) -> None:
    with fake_endpoint(lambda n, body: Reply(status, b'{"error": "no"}')) as server, HttpClient(server.url) as client:
        failed = failure(client)

    assert (failed.kind, failed.http_status, failed.message) == (kind, status, '{"error": "no"}')
    assert len(server.heard) == 1


def test_a_dropped_connection_is_a_failure_and_the_next_request_gets_a_new_one() -> None:
    def script(number: int, body: bytes) -> Reply:
        return Reply(200, body, drop=number == 0)

    with fake_endpoint(script) as server, HttpClient(server.url) as client:
        failed = failure(client)
        second = client.invoke(BODY)

    assert (failed.kind, failed.http_status) == ("connection", None)
    assert second == BODY
    assert len(server.heard) == 2


def test_an_idle_connection_that_the_server_closed_costs_no_request() -> None:
    def script(number: int, body: bytes) -> Reply:
        return Reply(200, body, {"Connection": "keep-alive"}, close_after=True)

    with fake_endpoint(script) as server, HttpClient(server.url) as client:
        for _ in range(3):
            assert client.invoke(BODY) == BODY
            assert server.closed.wait(20)
            server.closed.clear()

    assert len(server.connections) == 3


def test_nobody_listening_is_a_connection_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with HttpClient(f"http://127.0.0.1:{port}") as client:
        assert failure(client).kind == "connection"


def test_a_server_that_never_answers_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT", 0.05)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
    ):
        failed = failure(client)

    assert (failed.kind, failed.http_status) == ("timeout", None)


def test_the_sagemaker_client_invokes_the_endpoint(aws: pytest.MonkeyPatch) -> None:
    with fake_endpoint(lambda n, body: Reply(200, body)) as server:
        reply = sagemaker(server, aws).invoke(BODY)

    method, path, headers, body = server.heard[0]
    assert (method, path, body, reply) == ("POST", "/endpoints/tiny-t5/invocations", BODY, BODY)
    assert headers["Content-Type"] == headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("original", "kind"), [(424, "model"), (503, "unavailable"), (400, "refused"), (500, "server")]
)
def test_a_model_error_is_told_by_the_containers_own_status(aws: pytest.MonkeyPatch, original: int, kind: str) -> None:
    with fake_endpoint(lambda n, body: model_error(original, "no room")) as server:
        failed = failure(sagemaker(server, aws))

    assert (failed.kind, failed.http_status, failed.message) == (kind, original, "no room")


def test_a_container_that_did_not_answer_is_the_models_failure(aws: pytest.MonkeyPatch) -> None:
    with fake_endpoint(lambda n, body: model_error(0, "it has ended")) as server:
        failed = failure(sagemaker(server, aws))

    assert (failed.kind, failed.http_status, failed.message) == ("model", 424, "it has ended")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ThrottlingException", "throttled"),
        (429, "ModelNotReadyException", "throttled"),
        (503, "ServiceUnavailable", "unavailable"),
        (500, "InternalFailure", "server"),
        (400, "ValidationError", "refused"),
    ],
)
def test_sagemakers_own_errors_have_their_kind_and_are_never_retried(
    aws: pytest.MonkeyPatch, status: int, code: str, kind: str
) -> None:
    reply = Reply(status, json.dumps({"Message": "no"}).encode(), {"x-amzn-errortype": code})

    with fake_endpoint(lambda n, body: reply) as server:
        failed = failure(sagemaker(server, aws))

    assert (failed.kind, failed.http_status, failed.message) == (kind, status, f"{code}: no")
    assert len(server.heard) == 1


def test_a_connection_that_sagemaker_drops_is_a_failure_not_a_retry(aws: pytest.MonkeyPatch) -> None:
    with fake_endpoint(lambda n, body: Reply(200, drop=True)) as server:
        failed = failure(sagemaker(server, aws))

    assert failed.kind == "connection"
    assert len(server.heard) == 1


def test_sagemakers_silence_is_a_timeout(aws: pytest.MonkeyPatch) -> None:
    aws.setattr(client_module, "READ_TIMEOUT", 0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        failed = failure(SageMakerClient("tiny-t5", concurrency=1))

    assert failed.kind == "timeout"


def test_of_several_models_the_one_that_is_named_is_asked(aws: pytest.MonkeyPatch) -> None:
    with fake_endpoint(lambda n, body: Reply(200, body)) as server:
        aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        SageMakerClient("shared", concurrency=1, component="small").invoke(BODY)
        SageMakerClient("many", concurrency=1, model="a.tar.gz").invoke(BODY)

    first, second = (heard[2] for heard in server.heard)
    assert first["X-Amzn-SageMaker-Inference-Component"] == "small"
    assert second["X-Amzn-SageMaker-Target-Model"] == "a.tar.gz"
