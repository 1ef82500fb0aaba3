"""InvokeEndpointAsync: requests that wait their turn for a variant's container; inputs and results lie in S3.

Not invocations that are answered at once: invoke.py. As in AWS a request outlives an update of its endpoint and goes to
the containers that serve when its turn comes, and is lost when the endpoint is deleted.
"""

from __future__ import annotations

import contextvars
import http.client
import json
import logging
import re
import threading
import time
import urllib.parse
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import meter
from .asgi import Receive, Scope, Send, fail, headers, reply, request_body
from .clients import client
from .deployment import Served, turn
from .endpoints import Endpoint, Endpoints
from .errors import ApiError
from .forward import PREFIX, complaint, request_headers
from .settings import Settings
from .waiting import Waiting

log = logging.getLogger("heavylift.async")

MAX_INLINE = 128_000
"""Bytes of a request without InputLocation: botocore's model of sagemaker-runtime."""
AT_ONCE = 4
"""MaxConcurrentInvocationsPerInstance where it is not given; SageMaker chooses one by its own lights."""
TIMEOUT_S, TTL_S = 900, 21_600
"""InvocationTimeoutSeconds and RequestTTLSeconds where they are not given (API_runtime_InvokeEndpointAsync)."""
_PATH = re.compile(r"/endpoints/([^/]+)/async-invocations")


class Broken(Exception):
    """The request came to nothing; the message is for the failure's object."""


class AsyncInvocations:
    """The queues, one for each variant of each endpoint: first come, first served, so many at a time."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings, self._endpoints = settings, endpoints
        self._s3 = client(settings, "s3", connections=64)
        self._sns = client(settings, "sns", connections=4)
        self._threads = ThreadPoolExecutor(max_workers=512, thread_name_prefix="async")
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], deque[Waiting]] = {}
        self._at_work: dict[tuple[str, str], int] = {}

    def matches(self, scope: Scope) -> bool:
        """Whether the request is an asynchronous invocation."""
        return scope["method"] == "POST" and _PATH.fullmatch(scope["path"]) is not None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one invocation into its queue, and say where its result will be."""
        match = _PATH.fullmatch(scope["path"])
        assert match is not None
        try:
            given, body = headers(scope), await request_body(receive, MAX_INLINE)
            waiting, variant = self._taken(urllib.parse.unquote(match[1]), given, body)
            self._put(waiting, variant)
            told = {f"{PREFIX}outputlocation": waiting.output, "Content-Type": "application/json"}
            if waiting.failure is not None:
                told[f"{PREFIX}failurelocation"] = waiting.failure
            await reply(send, 202, json.dumps({"InferenceId": waiting.known_as}).encode(), told)
        except ApiError as error:
            await fail(send, error)

    def _taken(self, name: str, given: dict[str, str], body: bytes) -> tuple[Waiting, str]:
        """The request and its variant; ValidationError for what SageMaker refuses."""
        endpoint = self._endpoints.find(name)
        if endpoint is None or endpoint.serving is None or endpoint.status == "Deleting":
            state = "not found" if endpoint is None else f"{endpoint.status}; it serves when it is InService"
            raise ApiError("ValidationError", f"Endpoint {name} is {state}.")
        config, faults = endpoint.serving.asynchronous, []
        if config is None:
            raise ApiError("ValidationError", f"endpoint {name} has no AsyncInferenceConfig; use InvokeEndpoint")
        where = given.get(f"{PREFIX}inputlocation")
        if (where is None) != bool(body):
            faults.append("give InputLocation or a body, and not both")
        if where is not None and re.fullmatch(r"s3://[^/]+/.+", where) is None:
            faults.append(f"InputLocation is {where!r}; the embedded SageMaker reads s3://bucket/key")
        for header, least, most in (("requestttlseconds", 60, TTL_S), ("invocationtimeoutseconds", 1, 3600)):
            said = given.get(PREFIX + header, str(least))
            if not said.isdecimal() or not least <= int(said) <= most:
                faults.append(f"{header} is {said!r}; from {least} to {most}")
        if faults:
            raise ApiError("ValidationError", "; ".join(faults))
        served = turn(endpoint.served.values())
        if served is None:
            raise ApiError("ValidationError", f"every variant of endpoint {name} has weight 0")
        served.answered += 1
        id = str(uuid.uuid4())
        output, failure = _places(config["OutputConfig"], given, id)
        context = contextvars.copy_context()
        body_here = None if where is not None else body
        return Waiting(endpoint, id, given, body_here, output, failure, time.time(), context), served.variant.name

    def _put(self, waiting: Waiting, variant: str) -> None:
        with self._lock:
            self._waiting.setdefault((waiting.endpoint.name, variant), deque()).append(waiting)
        self._begin(waiting.endpoint.name, variant)

    def _begin(self, name: str, variant: str) -> None:
        """Let as many as may work at once begin."""
        key = name, variant
        while True:
            with self._lock:
                queue, busy = self._waiting.get(key, deque()), self._at_work.get(key, 0)
                if not queue or busy >= self._at_once(name):
                    return
                waiting = queue.popleft()
                left = sum(len(each) for (other, _), each in self._waiting.items() if other == name)
                self._at_work[key] = busy + 1
            self._threads.submit(waiting.context.run, self._work, waiting, variant, left)

    def _at_once(self, name: str) -> int:
        endpoint = self._endpoints.find(name)
        config = None if endpoint is None or endpoint.serving is None else endpoint.serving.asynchronous
        known = ({} if config is None else config).get("ClientConfig", {})
        return int(known.get("MaxConcurrentInvocationsPerInstance", AT_ONCE))

    def _work(self, waiting: Waiting, variant: str, left: int) -> None:
        try:
            there = self._endpoints.find(waiting.endpoint.name)
            if there is waiting.endpoint and there.status != "Deleting":
                self._answer(waiting, variant, left)
        except Exception:
            log.exception("%s of %s", waiting.id, waiting.endpoint.name)
        finally:
            with self._lock:
                self._at_work[waiting.endpoint.name, variant] -= 1
            self._begin(waiting.endpoint.name, variant)

    def _answer(self, waiting: Waiting, variant: str, left: int) -> None:
        """Ask the container and put its answer, or the failure, where the request was told."""
        begun, asked, served = time.time(), time.time(), self._served(waiting.endpoint, variant)
        name = variant if served is None else served.variant.name
        reason, kind = None, "text/plain"
        try:
            if served is None:
                raise Broken(f"endpoint {waiting.endpoint.name} is {waiting.endpoint.status}")
            if begun - waiting.received > waiting.seconds("requestttlseconds", TTL_S):
                raise Broken(f"the request has waited {begun - waiting.received:.0f} s, longer than it may")
            body = self._input(waiting)
            asked = time.time()
            content, kind = _asked(served, waiting, body)
            self._write(waiting.output, content, kind)
        except Broken as broken:
            reason = str(broken)
            log.warning("%s of %s failed: %s", waiting.id, waiting.endpoint.name, reason)
            if waiting.failure is not None:
                self._write(waiting.failure, reason.encode(), "text/plain")
        done = time.time()
        meter.put_async(
            waiting.endpoint.name,
            name,
            failed=reason is not None,
            model_s=done - asked,
            waited_s=begun - waiting.received,
            total_s=done - waiting.received,
            left=left,
        )
        self._tell(waiting, reason, kind)

    def _served(self, endpoint: Endpoint, variant: str) -> Served | None:
        """Who serves now: an update may have taken the variant away."""
        there = endpoint.served
        return there.get(variant) or turn(there.values())

    def _input(self, waiting: Waiting) -> bytes:
        if waiting.body is not None:
            return waiting.body
        where = waiting.given[f"{PREFIX}inputlocation"]
        bucket, _, key = where.removeprefix("s3://").partition("/")
        try:
            content: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise Broken(f"the input {where} cannot be downloaded: {error}") from None
        return content

    def _write(self, uri: str, content: bytes, kind: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            self._s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=kind)
        except (BotoCoreError, ClientError) as error:
            raise Broken(f"the result {uri} cannot be written: {error}") from None

    def _tell(self, waiting: Waiting, reason: str | None, kind: str) -> None:
        """Tell the topic of the endpoint's configuration, where it has one."""
        serving = waiting.endpoint.serving
        config: dict[str, Any] = {} if serving is None or serving.asynchronous is None else serving.asynchronous
        topics = config.get("OutputConfig", {}).get("NotificationConfig", {})
        topic = topics.get("SuccessTopic" if reason is None else "ErrorTopic")
        if topic is None:
            return
        told = waiting.notice(self._settings.region, reason, kind)
        try:
            self._sns.publish(TopicArn=topic, Message=json.dumps(told))
        except (BotoCoreError, ClientError):
            log.exception("the topic %s was not told", topic)


def _places(config: dict[str, Any], given: dict[str, str], id: str) -> tuple[str, str | None]:
    """Where the result goes, and where a failure."""
    extension = given.get(f"{PREFIX}s3outputpathextension", "").strip("/")
    parts = [part for part in (extension, given.get(f"{PREFIX}filename", f"{id}.out")) if part]
    failed = config.get("S3FailurePath")
    output = "/".join((config["S3OutputPath"].rstrip("/"), *parts))
    return output, None if failed is None else f"{failed.rstrip('/')}/{id}-error.out"


def _asked(served: Served, waiting: Waiting, body: bytes) -> tuple[bytes, str]:
    """The container's answer and its content type; Broken where it is none."""
    container, seconds = served.container, waiting.seconds("invocationtimeoutseconds", TIMEOUT_S)
    assert container is not None, "asynchronous endpoints have models of their own"
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=seconds)
    sent = request_headers({**waiting.given, "content-type": waiting.given.get(f"{PREFIX}content-type", "")})
    try:
        connection.request("POST", "/invocations", body, sent)
        answer = connection.getresponse()
        content = answer.read()
    except TimeoutError:
        raise Broken(complaint(0, f"no answer within {seconds} s", served.variant.name, container)) from None
    except (OSError, http.client.HTTPException) as error:
        text = f"the container broke the connection: {error or type(error).__name__}"
        raise Broken(complaint(0, text, served.variant.name, container)) from None
    finally:
        with suppress(OSError):
            connection.close()
    if answer.status != 200:
        text = content.decode("utf-8", "replace")
        raise Broken(complaint(answer.status, text, served.variant.name, container))
    return content, answer.getheader("Content-Type", "application/octet-stream")
