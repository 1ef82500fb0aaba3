"""sagemaker-runtime: an invocation is forwarded to a variant's container, answered whole or as a stream of events.

Not the endpoint's life: that is endpoints.py. A shadow variant gets a copy, and its answer is thrown away.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from . import eventstream
from .adapters import HEADER, base_of
from .asgi import Receive, Scope, Send, fail, headers, reply, request_body
from .container import Container
from .deployment import Served, shadow, turn
from .endpoints import Endpoint, Endpoints
from .errors import ApiError
from .forward import PREFIX, model_error, request_headers
from .meter import Meter, put_no_capacity

T = TypeVar("T")

MAX_BODY = 6_291_456
"""Bytes of a request: the maximum in botocore's model of sagemaker-runtime."""
MAX_SECONDS = 60.0
"""A container must answer, and a stream go on, within 60 s (InvokeEndpoint, API reference)."""
MAX_PART = 65_536  # bytes of one PayloadPart
_PATH = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")
_RETURNED = ("custom-attributes", "new-session-id", "closed-session-id")


@dataclass(frozen=True)
class Answer:
    """The container's answer, its body not yet read, and the connection that brings it."""

    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    def cut(self) -> None:
        """End the answer and its connection."""
        _cut(self.connection)
        self.response.close()


class Invocations:
    """Forwards invocations, each on threads of their own pool: a Lambda that invokes an endpoint waits for no other.

    `components` are the inference components, by their names.
    """

    def __init__(self, endpoints: Endpoints, components: Endpoints) -> None:
        self._endpoints, self._components = endpoints, components
        self._threads = ThreadPoolExecutor(max_workers=512, thread_name_prefix="invocation")

    def matches(self, scope: Scope) -> bool:
        """Whether the request is an invocation."""
        return scope["method"] == "POST" and _PATH.fullmatch(scope["path"]) is not None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one invocation."""
        match = _PATH.fullmatch(scope["path"])
        assert match is not None
        name, stream = urllib.parse.unquote(match[1]), match[2].endswith("stream")
        given = headers(scope)
        meter = Meter(name, stream=stream, component=given.get(f"{PREFIX}inference-component"))
        try:
            served, copied, more = self._serving(name, given)
            body = await request_body(receive, MAX_BODY)
            if copied is not None and copied.container is not None:
                self._threads.submit(_copy, copied.container, request_headers(given), body)
            container = served.container  # of this request: another may take its place meanwhile
            assert container is not None, "instances without a model answer nobody"
            path = await self._path(container, given.get(f"{PREFIX}target-model"))
            send = meter.watch(served.variant.production, send)
            answer = await self._forward(container, path, {**request_headers(given), **more}, body)
            await self._answer(served, container, answer, stream, receive, send)
        except ApiError as error:
            await fail(send, error)

    def _serving(self, name: str, given: dict[str, str]) -> tuple[Served, Served | None, dict[str, str]]:
        """The variant that answers: TargetVariant, whatever its weight, else by weight; the shadow to copy to; and what
        SageMaker adds to the request's headers."""
        endpoint = self._endpoints.find(name)
        if endpoint is None:
            raise ApiError("ValidationError", f"Endpoint {name} not found.")
        there = endpoint.served
        if not there or endpoint.status == "Deleting":
            raise ApiError("ValidationError", f"Endpoint {name} is {endpoint.status}; it serves when it is InService.")
        if f"{PREFIX}target-container-hostname" in given:
            raise ApiError("ValidationError", f"endpoint {name} has no pipeline; leave out target-container-hostname")
        if endpoint.serving is not None and endpoint.serving.asynchronous is not None:
            raise ApiError("ValidationError", f"endpoint {name} has an AsyncInferenceConfig; use InvokeEndpointAsync")
        component, wanted = (given.get(PREFIX + header) for header in ("inference-component", "target-variant"))
        if component is not None or all(each.container is None for each in there.values()):
            return self._copy_of(component, endpoint)
        served = turn(there.values()) if wanted is None else there.get(wanted)
        if served is None or served.variant.shadow:
            raise ApiError(
                "ValidationError",
                f"endpoint {name} has no variant {wanted!r}"
                if wanted is not None
                else f"every variant of endpoint {name} has weight 0; name one with TargetVariant",
            )
        if wanted is None:
            served.answered += 1
        copied = shadow(there.values(), served)
        if copied is not None:
            copied.answered += 1
        return served, copied, {}

    def _copy_of(self, component: str | None, endpoint: Endpoint) -> tuple[Served, None, dict[str, str]]:
        """The copy of an inference component of the endpoint that answers, each in turn; an adapter's base has them."""
        if component is None:
            told = f"endpoint {endpoint.name} has inference components: name one with InferenceComponentName"
            raise ApiError("ValidationError", told)
        found = self._components.find(component)
        if found is None or found.asked.given["EndpointName"] != endpoint.name or found.status == "Deleting":
            raise ApiError("ValidationError", f"endpoint {endpoint.name} has no inference component {component!r}")
        more, base = {}, base_of(found)
        if base is not None and (under := self._components.find(base)) is not None and found.serving is not None:
            found, more = under, {HEADER: component}
        served = turn(found.served.values())
        if served is None:
            put_no_capacity(component)
            told = f"inference component {component} is {found.status} and has no copy that could answer"
            raise ApiError("ValidationError", told)
        served.answered += 1
        return served, None, more

    async def _path(self, container: Container, target: str | None) -> str:
        """Where the container takes the request: of a multi-model one, once it has loaded the model."""
        models = container.models
        if (models is None) != (target is None):
            told = "the endpoint serves one model: leave out" if models is None else "a multi-model endpoint needs"
            raise ApiError("ValidationError", f"{told} TargetModel")
        if models is None or target is None:
            return "/invocations"
        try:
            return await self._in_time(lambda: models.path(target))
        except TimeoutError:
            told = f"model {target} is still loading after {MAX_SECONDS:g} s: try again"
            raise ApiError("ModelNotReadyException", told, 429) from None

    async def _forward(self, container: Container, path: str, sent: dict[str, str], body: bytes) -> Answer:
        """The container's answer once its headers are here; ModelError where it does not come."""
        connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=MAX_SECONDS)

        def exchange() -> http.client.HTTPResponse:
            connection.request("POST", path, body, sent)
            return connection.getresponse()

        try:
            return Answer(await self._in_time(exchange), connection)
        except TimeoutError:
            _cut(connection)
            raise model_error(0, f"no answer within {MAX_SECONDS:g} s", container) from None
        except (OSError, http.client.HTTPException) as error:
            _cut(connection)
            state = "runs" if container.alive() else "has ended"
            what = f"the container, which {state}, broke the connection: {error or type(error).__name__}"
            raise model_error(0, what, container) from None

    async def _answer(
        self, served: Served, container: Container, answer: Answer, stream: bool, receive: Receive, send: Send
    ) -> None:
        response, variant = answer.response, served.variant.production
        returned = {"x-Amzn-Invoked-Production-Variant": variant}
        for name in _RETURNED:
            if (value := response.getheader(PREFIX + name)) is not None:
                returned[PREFIX + name] = value
        kind = response.getheader("Content-Type", "application/octet-stream")
        try:
            if response.status >= 400:
                text = (await self._in_time(response.read)).decode("utf-8", "replace")
                raise model_error(response.status, text, container, variant)
            if not stream:
                body = await self._in_time(response.read)
                await reply(send, 200, body, {**returned, "Content-Type": kind})
                return
            returned |= {"Content-Type": "application/vnd.amazon.eventstream", f"{PREFIX}content-type": kind}
            await self._stream(answer, returned, receive, send)
        except TimeoutError:
            raise model_error(0, f"no answer within {MAX_SECONDS:g} s", container, variant) from None
        except (OSError, http.client.HTTPException) as error:
            raise model_error(0, f"the answer broke off: {error!r}", container, variant) from None
        finally:
            answer.cut()

    async def _stream(self, answer: Answer, returned: dict[str, str], receive: Receive, send: Send) -> None:
        """Send each part as it comes; stop, and so cancel the generation, when the caller hangs up."""

        async def body(frame: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": frame, "more_body": more})

        lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in returned.items()]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        hung_up = asyncio.ensure_future(receive())
        try:
            while True:
                chunk = asyncio.ensure_future(self._in_time(lambda: answer.response.read1(MAX_PART)))
                await asyncio.wait({chunk, hung_up}, return_when=asyncio.FIRST_COMPLETED)
                if hung_up.done():
                    answer.cut()
                    await asyncio.gather(chunk, return_exceptions=True)
                    return
                try:
                    data = chunk.result()
                except TimeoutError:
                    code = "ModelInvocationTimeExceeded"
                    await body(eventstream.failure("ModelStreamError", f"no part within {MAX_SECONDS:g} s", code))
                    break
                except (OSError, http.client.HTTPException, ValueError) as error:
                    await body(eventstream.failure("ModelStreamError", f"the stream broke: {error!r}", "StreamBroken"))
                    break
                if not data:
                    break
                for part in eventstream.cut(data):
                    await body(eventstream.part(part))
            await body(b"", more=False)
        finally:
            hung_up.cancel()

    async def _in_time(self, work: Callable[[], T]) -> T:
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._threads, work), MAX_SECONDS)


def _cut(connection: http.client.HTTPConnection) -> None:
    """End the connection, also under a thread that reads from it: the container sees its caller hang up."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _copy(container: Container, sent: dict[str, str], body: bytes) -> None:
    """Let a shadow variant answer, and nobody read it."""
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=MAX_SECONDS)
    try:
        connection.request("POST", "/invocations", body, sent)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass
    finally:
        _cut(connection)
