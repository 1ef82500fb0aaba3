"""InvokeEndpointAsync as a client: a request's body goes to S3, its reply is waited for there.

Not SageMaker's queue, nor when a request is due. A reply is looked for 20 times a second at first, and later at every
twentieth of the time that it has taken so far: what is measured is at most 50 ms or 5 % too long, never too short.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from heavylift.benchmark import client
from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.passage import Passage
from heavylift.benchmark.spec import INPUTS

LOOK_S, LOOK_SHARE = 0.05, 0.05
FAILURE_EVERY = 4  # looks: how long a failure took counts nowhere


class AsynchronousClient:
    """`results` is the endpoint's S3OutputPath. Equal bodies are one object, which is written for each request: a
    user's request has its upload, too. What the endpoint writes stays where its results go.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        results: str,
        concurrency: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            read_timeout=client.READ_TIMEOUT,
            connect_timeout=client.CONNECT_TIMEOUT,
            max_pool_connections=concurrency,
            tcp_keepalive=True,
        )
        self._runtime, self._s3 = (boto3.client(service, config=config) for service in ("sagemaker-runtime", "s3"))
        self._endpoint, self._inputs = endpoint, f"{results.rstrip('/')}/{INPUTS}"
        self._clock, self._pause = clock, pause

    def invoke(self, body: bytes, passage: Passage | None = None) -> bytes:
        """The reply's bytes. `passage` stays empty: of SageMaker's own steps nothing is told."""
        with client.failures():
            where = f"{self._inputs}{hashlib.sha256(body).hexdigest()}.json"
            bucket, key = _place(where)
            self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
            taken = self._runtime.invoke_endpoint_async(
                EndpointName=self._endpoint,
                ContentType="application/json",
                Accept="application/json",
                InputLocation=where,
                InferenceId=f"benchmark-{uuid.uuid4()}",
            )
            return self._awaited(taken["OutputLocation"], taken.get("FailureLocation"))

    def stream(self, body: bytes, passage: Passage | None = None) -> Iterator[bytes]:
        """Nothing streams through S3."""
        raise InvocationFailed("refused", "an asynchronous endpoint does not stream; leave 'stream' out")

    def _awaited(self, output: str, failure: str | None) -> bytes:
        began, looks = self._clock(), 0
        while True:
            if (content := self._object(output)) is not None:
                return content
            if failure is not None and looks % FAILURE_EVERY == 0 and (told := self._object(failure)) is not None:
                raise InvocationFailed("model", told.decode(errors="replace"), 424)
            waited, looks = self._clock() - began, looks + 1
            if waited > client.READ_TIMEOUT:
                raise InvocationFailed("timeout", f"no reply at {output} within {client.READ_TIMEOUT:g} s")
            self._pause(max(LOOK_S, LOOK_SHARE * waited))

    def _object(self, uri: str) -> bytes | None:
        bucket, key = _place(uri)
        try:
            body: Any = self._s3.get_object(Bucket=bucket, Key=key)["Body"]
        except ClientError as error:
            if error.response["Error"].get("Code") in ("NoSuchKey", "404"):
                return None
            raise
        return client.bounded(body.read(client.MOST_REPLY + 1))


def _place(uri: str) -> tuple[str, str]:
    """Bucket and key. Raises InvocationFailed for what is no place in S3."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key:
        raise InvocationFailed("reply", f"{uri!r} is no s3://bucket/key")
    return bucket, key
