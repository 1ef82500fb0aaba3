"""Sends one request and waits for its reply: to a SageMaker endpoint, or to a runtime by URL.

Not a client that hides anything: no retry, and each way to fail is an InvocationFailed with its kind. Both clients are
safe to use from many threads, and keep at most `concurrency` connections open.
"""

from __future__ import annotations

import http.client
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

# A container has 60 seconds for a reply; AWS's API reference of InvokeEndpoint asks for a client timeout of 70.
READ_TIMEOUT = 70.0
CONNECT_TIMEOUT = 10.0
THROTTLES = {"ThrottlingException", "Throttling", "TooManyRequestsException", "ModelNotReadyException"}


class InvocationFailed(Exception):
    """A request that got no usable reply. `kind` is model, throttled, unavailable, refused, server, timeout, connection
    or reply."""

    def __init__(self, kind: str, message: str, http_status: int | None = None) -> None:
        self.kind, self.message, self.http_status = kind, message, http_status
        super().__init__(f"{kind}: {message}")


def by_status(status: int, message: str) -> InvocationFailed:
    """The failure that an HTTP status means: 424 the model failed, 429 too many requests, 503 no room or no worker."""
    kind = {424: "model", 429: "throttled", 503: "unavailable"}.get(status, "server" if status >= 500 else "refused")
    return InvocationFailed(kind, message, status)


class Client(Protocol):
    """What a benchmark needs of an endpoint."""

    def invoke(self, body: bytes) -> bytes:
        """Send a JSON body, give the reply's bytes. Raises InvocationFailed."""
        ...


class SageMakerClient:
    """InvokeEndpoint, with SageMaker's own errors told apart from the container's."""

    def __init__(self, endpoint: str, *, concurrency: int) -> None:
        self._endpoint = endpoint
        self._runtime = boto3.client(
            "sagemaker-runtime",
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                read_timeout=READ_TIMEOUT,
                connect_timeout=CONNECT_TIMEOUT,
                max_pool_connections=concurrency,
                tcp_keepalive=True,
            ),
        )

    def invoke(self, body: bytes) -> bytes:
        try:
            reply = self._runtime.invoke_endpoint(
                EndpointName=self._endpoint, ContentType="application/json", Accept="application/json", Body=body
            )
            content: bytes = reply["Body"].read()
        except ClientError as error:
            raise self._failure(error.response) from None
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            raise InvocationFailed("timeout", str(error)) from None
        except BotoCoreError as error:
            raise InvocationFailed("connection", str(error)) from None
        return content

    @staticmethod
    def _failure(response: Any) -> InvocationFailed:
        """A ModelError carries the container's own status; every other error is SageMaker's."""
        code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
        if code == "ModelError":
            status = response.get("OriginalStatusCode")
            original = response.get("OriginalMessage") or message
            return InvocationFailed("model", original, 424) if status is None else by_status(int(status), original)
        status = response["ResponseMetadata"].get("HTTPStatusCode", 500)
        failure = by_status(status, f"{code}: {message}")
        return InvocationFailed("throttled", failure.message, status) if code in THROTTLES else failure


class HttpClient:
    """POST to the /invocations of a runtime, over connections that stay open."""

    def __init__(self, url: str) -> None:
        """`url` is http(s)://host[:port][/path]; without a path, /invocations. Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL is {url!r}; it must be http://host:port or https://host:port")
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path if parts.path not in ("", "/") else "/invocations"
        self._idle: list[http.client.HTTPConnection] = []

    def invoke(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make(self._host, self._port, timeout=READ_TIMEOUT)
        try:
            connection.request("POST", self._path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
        except TimeoutError as error:
            connection.close()
            raise InvocationFailed("timeout", f"no reply in {READ_TIMEOUT:g} s ({error})") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise InvocationFailed("connection", f"{type(error).__name__}: {error}") from None
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if reply.status != 200:
            raise by_status(reply.status, content[:500].decode(errors="replace"))
        return content

    def close(self) -> None:
        """Close the idle connections; call it when no request is under way."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
