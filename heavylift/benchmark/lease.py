"""One worker at a time for one request of CloudFormation, and the answer that was given to it.

Not a lock service: two objects in the report bucket, made by S3's conditional writes (Amazon S3 user guide, "How to
prevent object overwrites with conditional writes"). Lambda may deliver an asynchronous event more than once, and calls
a function that failed again (AWS Lambda developer guide, "Asynchronous invocation"): two load tests at once would
measure each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import boto3
from botocore.exceptions import ClientError

from heavylift.benchmark.answer import Answer

# Without the right to list the bucket, S3 says AccessDenied of an object that is not there.
ABSENT = ("NoSuchKey", "AccessDenied")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


def folder(model: str, request: str) -> str:
    """Where a request's objects are. No run's name begins with a dot."""
    return f"reports/{model}/.answers/{quote(request, safe='')}"


class Given:
    """The answer that was given to a request, kept so that a repeated request does not benchmark twice."""

    def __init__(self, bucket: str, model: str, request: str) -> None:
        self._place = {"Bucket": bucket, "Key": f"{folder(model, request)}.json"}

    def read(self) -> Answer | None:
        found = _read(self._place)
        return None if found is None else Answer.from_json(found[0].decode())

    def write(self, answer: Answer) -> None:
        boto3.client("s3").put_object(**self._place, Body=answer.to_json().encode())


class Lease:
    """The right to work on one part of a request until a time; `clock` is seconds since the epoch."""

    def __init__(
        self, bucket: str, model: str, request: str, *, part: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        self._place = {"Bucket": bucket, "Key": f"{folder(model, request)}.lease-{part}"}
        self._clock = clock

    def take(self, seconds: float) -> bool:
        """Take it for so many seconds, if nobody has it or its time is over. Of several who try, one gets it."""
        found = _read(self._place)
        if found is None:
            return self._write(seconds, IfNoneMatch="*")
        text, version = found
        return json.loads(text)["until"] <= self._clock() and self._write(seconds, IfMatch=version)

    def extend(self, seconds: float) -> None:
        """Keep it for so many seconds from now: who holds it hands the work on."""
        self._write(seconds)

    def _write(self, seconds: float, **condition: str) -> bool:
        body = json.dumps({"until": self._clock() + seconds}).encode()
        try:
            boto3.client("s3").put_object(**self._place, **condition, Body=body)
        except ClientError as error:
            if error.response["Error"]["Code"] in TAKEN:
                return False
            raise
        return True


def _read(place: dict[str, str]) -> tuple[bytes, str] | None:
    """(content, ETag) of an object, or None."""
    try:
        reply: dict[str, Any] = boto3.client("s3").get_object(**place)
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return None
        raise
    return reply["Body"].read(), str(reply["ETag"])
