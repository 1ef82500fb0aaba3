"""A request's body, bounded in size, in time, and in what all bodies together may hold. Not its meaning."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from heavylift_runtime.server.refused import Refused

MAX_BODY = 6 * 2**20
"""Bytes where max_request_size does not say; SageMaker's InvokeEndpoint: botocore's BodyBlob has max 6291456."""
BODY_SECONDS = 30.0
MAX_ALL = 256 * 2**20  # bytes of all bodies that are still coming


class Bodies:
    """Reads bodies, and knows how many bytes of unfinished ones it holds."""

    def __init__(self, most: int = MAX_BODY) -> None:
        self.most = most
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body; refused by its declared length before it is read, or as soon as it has grown too large."""
        declared = request.headers.get("content-length")  # the HTTP parser has checked that it is a number
        if declared is not None and int(declared) > self.most:
            raise Refused(413, f"the body has {declared} bytes: at most {self.most}")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > self.most:
                        raise Refused(413, f"the body has more than {self.most} bytes")
                    if self._held > MAX_ALL:
                        raise Refused(503, f"requests of {MAX_ALL} bytes are coming in already", retry_after=1)
        except TimeoutError as error:
            raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error
        finally:
            self._held -= len(body)
        return bytes(body)
