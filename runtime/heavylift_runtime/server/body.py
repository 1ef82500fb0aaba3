"""A request's body, bounded in size, in time, and in what all bodies together may hold. Not its meaning."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from heavylift_runtime.server.refused import Refused

MAX_BODY = 6 * 2**20
"""Bytes where max_request_size does not say; SageMaker's InvokeEndpoint: botocore's BodyBlob has max 6291456."""
BODY_SECONDS = 30.0
MAX_ALL = 256 * 2**20  # bytes of all bodies that are still coming, but for one that is larger alone


class Bodies:
    """Reads bodies, and knows how many bytes of unfinished ones it holds."""

    def __init__(self, most: int = MAX_BODY) -> None:
        self.most = most
        self._held = 0
        self._large = 0  # bodies that are larger than all others may be together: one at a time

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body; refused by its declared length before it is read, or as soon as it has grown too large."""
        declared = int(headers.get("content-length", 0))  # the HTTP parser has checked that it is a number
        if declared > self.most:
            raise Refused(413, f"the body has {declared} bytes: at most {self.most}")
        if declared <= MAX_ALL:
            return await self._read(receive)
        if self._large == 1:
            raise Refused(503, f"a request of more than {MAX_ALL} bytes is coming in already", retry_after=1)
        self._large = 1
        try:
            return await self._read(receive, counted=False)
        finally:
            self._large = 0

    async def _read(self, receive: Receive, *, counted: bool = True) -> bytes:
        body, held = bytearray(), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    body += chunk
                    if counted:
                        held += len(chunk)
                        self._held += len(chunk)
                    if len(body) > self.most:
                        raise Refused(413, f"the body has more than {self.most} bytes")
                    if counted and held > MAX_ALL:
                        raise Refused(411, f"a body of more than {MAX_ALL} bytes must say its Content-Length")
                    if counted and self._held > MAX_ALL:
                        raise Refused(503, f"requests of {MAX_ALL} bytes are coming in already", retry_after=1)
        except TimeoutError as error:
            raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error
        finally:
            self._held -= held
        return bytes(body)
