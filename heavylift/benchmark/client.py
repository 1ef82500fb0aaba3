"""Sends one request and waits for its reply: to a SageMaker endpoint, or to a runtime by URL.

Not a client that hides anything: no retry, and each way to fail is an InvocationFailed with its kind. Both clients are
safe to use from many threads, and keep at most `concurrency` connections open.
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import ReadTimeoutError as PoolTimeout

from heavylift.benchmark.eventstream import Events
from heavylift.benchmark.failure import InvocationFailed, by_status
from heavylift.benchmark.passage import ASK, Passage

__all__ = ["READ_TIMEOUT", "Client", "HttpClient", "InvocationFailed", "SageMakerClient"]

# A container has 60 seconds for a reply; AWS's API reference of InvokeEndpoint asks for a client timeout of 70.
READ_TIMEOUT = 70.0
CONNECT_TIMEOUT = 10.0
MOST_PART = 65_536
MOST_REPLY = 64 * 1024 * 1024  # bytes: more than SageMaker passes on, and less than a Lambda's memory
THROTTLES = {"ThrottlingException", "Throttling", "TooManyRequestsException", "ModelNotReadyException"}


class Client(Protocol):
    """What a benchmark needs of an endpoint."""

    def invoke(self, body: bytes, passage: Passage | None = None) -> bytes:
        """Send a JSON body, give the reply's bytes; `passage` is told of its way. Raises InvocationFailed."""
        ...

    def stream(self, body: bytes, passage: Passage | None = None) -> Iterator[bytes]:
        """Send a JSON body, give the reply's bytes part by part as they come. Raises InvocationFailed, also midway."""
        ...


class SageMakerClient:
    """InvokeEndpoint and InvokeEndpointWithResponseStream, with SageMaker's own errors told apart from the
    container's."""

    def __init__(
        self,
        endpoint: str,
        *,
        concurrency: int,
        variant: str | None = None,
        component: str | None = None,
        model: str | None = None,
    ) -> None:
        """`variant`: that one only, whatever its weight is. `component`: of those that share the endpoint's instances;
        `model`: the archive of a multi-model endpoint."""
        self._asked = {"EndpointName": endpoint, "ContentType": "application/json", "CustomAttributes": ASK}
        aims = {"TargetVariant": variant, "InferenceComponentName": component, "TargetModel": model}
        self._asked |= {name: value for name, value in aims.items() if value is not None}
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
        self._here = threading.local()  # the request that this thread is about to send: its passage, its raw reply
        self._runtime.meta.events.register("before-send.sagemaker-runtime", self._before_send)
        stream = "after-call.sagemaker-runtime.InvokeEndpointWithResponseStream"
        self._runtime.meta.events.register(stream, self._after_call)

    def invoke(self, body: bytes, passage: Passage | None = None) -> bytes:
        passage = self._here.passage = Passage() if passage is None else passage
        with failures():
            reply = self._runtime.invoke_endpoint(**self._asked, Accept="application/json", Body=body)
            passage.head(reply.get("CustomAttributes"))
            content: bytes = reply["Body"].read(MOST_REPLY + 1)
        return bounded(content)

    def stream(self, body: bytes, passage: Passage | None = None) -> Iterator[bytes]:
        passage = self._here.passage = Passage() if passage is None else passage
        with failures():
            reply = self._runtime.invoke_endpoint_with_response_stream(**self._asked, Body=body)
            raw, events, size = self._here.raw, Events(), 0
            passage.head(reply.get("CustomAttributes"))
            try:
                for chunk in raw.stream():
                    for part in events.parts(chunk):
                        size += len(part)
                        yield bounded(part, size)
                events.end()
            finally:
                raw.close()

    def _before_send(self, **_told: Any) -> None:
        self._here.passage.write()

    def _after_call(self, http_response: Any, **_told: Any) -> None:
        """botocore's own reader of the stream takes twice as long for a part (benchmarks/generator.py): the bytes are
        read here, and by eventstream.py."""
        self._here.raw = http_response.raw


@contextmanager
def failures() -> Iterator[None]:
    """Whatever boto3 raises, as an InvocationFailed."""
    try:
        yield
    except ClientError as error:
        raise _failure(error.response) from None
    except (ReadTimeoutError, ConnectTimeoutError, PoolTimeout) as error:
        raise InvocationFailed("timeout", str(error)) from None
    except (BotoCoreError, HTTPError) as error:
        raise InvocationFailed("connection", str(error)) from None


def _failure(response: Any) -> InvocationFailed:
    """A ModelError carries the container's own status; every other error is SageMaker's."""
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    if code == "ModelError":
        status = response.get("OriginalStatusCode")
        original = response.get("OriginalMessage") or message
        silent = status in (None, 0)  # SageMaker's word for a container that did not answer
        return InvocationFailed("model", original, 424) if silent else by_status(int(status), original)
    status = response["ResponseMetadata"].get("HTTPStatusCode", 500)
    failure = by_status(status, f"{code}: {message}")
    return InvocationFailed("throttled", failure.message, status) if code in THROTTLES else failure


class HttpClient:
    """POST to the /invocations of a runtime, or another path, over connections that stay open."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        """`url` is http(s)://host[:port][/path]; without a path, /invocations. `headers` go with each request (an
        `Authorization`). Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL is {url!r}; it must be http://host:port or https://host:port")
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path if parts.path not in ("", "/") else "/invocations"
        self._headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Custom-Attributes": ASK}
        self._headers |= {} if headers is None else headers
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def invoke(self, body: bytes, passage: Passage | None = None) -> bytes:
        with self._reply(body, "application/json", passage) as reply:
            return bounded(reply.read(MOST_REPLY + 1))

    def stream(self, body: bytes, passage: Passage | None = None) -> Iterator[bytes]:
        with self._reply(body, "text/event-stream, application/jsonlines, application/json", passage) as reply:
            size = 0
            while part := reply.read1(MOST_PART):
                size += len(part)
                yield bounded(part, size)

    @contextmanager
    def _reply(self, body: bytes, accept: str, passage: Passage | None) -> Iterator[http.client.HTTPResponse]:
        """A reply of status 200 to read from; its connection is kept when all of it was read."""
        connection, passage = self._connection(), Passage() if passage is None else passage
        begun = False
        try:
            passage.write()
            connection.request("POST", self._path, body, {**self._headers, "Accept": accept})
            reply = connection.getresponse()
            begun = reply.status == 200
            passage.head(reply.getheader("X-Amzn-SageMaker-Custom-Attributes"))
            if not begun:
                raise by_status(reply.status, reply.read()[:500].decode(errors="replace"))
            yield reply
        except TimeoutError as error:
            connection.close()
            raise InvocationFailed("timeout", f"no reply in {READ_TIMEOUT:g} s ({error})") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            kind = "stream" if begun and accept.startswith("text") else "connection"
            raise InvocationFailed(kind, f"{type(error).__name__}: {error}", 200 if begun else None) from None
        except InvocationFailed:
            self._keep(connection, reply)
            raise
        except BaseException:
            connection.close()
            raise
        self._keep(connection, reply)

    def _keep(self, connection: http.client.HTTPConnection, reply: http.client.HTTPResponse) -> None:
        """For the next request, if all of the reply was read; a request may also end after the client was closed."""
        if not reply.isclosed():
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _connection(self) -> http.client.HTTPConnection:
        """The idle one that was used last, or a new one. What the server closed meanwhile fails no request."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._make(self._host, self._port, timeout=READ_TIMEOUT)
            if connection.sock is None or not _readable(connection.sock):
                return connection
            connection.close()

    def close(self) -> None:
        """Close the idle connections, and those of the requests that are under way when they end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bounded(content: bytes, size: int | None = None) -> bytes:
    """The content, of a reply that is so long by now. Raises InvocationFailed for one that does not end."""
    if (len(content) if size is None else size) > MOST_REPLY:
        raise InvocationFailed("reply", f"the reply is longer than {MOST_REPLY} bytes", 200)
    return content


def _readable(sock: socket.socket) -> bool:
    """An idle connection has nothing to read, unless it was closed at the other end."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(waiting.poll(0))
