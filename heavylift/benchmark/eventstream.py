"""The bytes of a SageMaker response stream to its payload parts, however they are cut.

Not the transport (client.py), nor what the parts say (stream.py). A message of the encoding
`application/vnd.amazon.eventstream` is: its length, the headers' length, the CRC-32 of both; the headers; the payload;
the CRC-32 of all before (https://smithy.io/2.0/aws/amazon-eventstream.html).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from heavylift.benchmark.failure import InvocationFailed

_PRELUDE = struct.Struct("!III")
_SMALLEST, _LARGEST = 16, 24 * 1024 * 1024  # bytes of a message: the encoding's limit of the payload, and headers
_STRING, _BYTES = 7, 6  # a header's types; those of a fixed size:
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Events:
    """What came of one stream so far, and does not make a whole message yet."""

    def __init__(self) -> None:
        self._rest = b""
        self._kinds: dict[bytes, tuple[str, str]] = {}  # headers as they came: all parts of a stream have the same

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """The payloads that are whole by now. Raises InvocationFailed, kind `stream`, for an exception in the stream,
        and for what is no event stream."""
        data, start = self._rest + chunk if self._rest else chunk, 0
        self._rest = b""
        while (end := _end(data, start)) is not None:
            message, start = data[start:end], end
            head = 12 + int.from_bytes(message[4:8])
            if zlib.crc32(message[:-4]) != int.from_bytes(message[-4:]):
                raise _broken("a message whose checksum is wrong")
            yield from self._payload(message[12:head], message[head:-4])
        self._rest = data[start:]

    def end(self) -> None:
        """The bytes have ended. Raises InvocationFailed in the midst of a message."""
        if self._rest:
            raise _broken(f"it ends {len(self._rest)} bytes into a message")

    def _payload(self, head: bytes, payload: bytes) -> Iterator[bytes]:
        if (kind := self._kinds.get(head)) is None:
            kind = self._kinds[head] = _kind(head)
        match kind:
            case "event", "PayloadPart":
                yield payload
            case "event", name:
                raise InvocationFailed("stream", f"{name}: {payload[:400]!r}", 200)
            case "exception", name:
                raise InvocationFailed("stream", f"{name}: {_told(payload)}", 200)
            case _, name:
                raise InvocationFailed("stream", name, 200)


def _end(data: bytes, start: int) -> int | None:
    """Where the message that begins at `start` ends; None where it is not whole."""
    if len(data) - start < _PRELUDE.size:
        return None
    total, head, check = _PRELUDE.unpack_from(data, start)
    if zlib.crc32(data[start : start + 8]) != check:
        raise _broken("a beginning whose checksum is wrong")
    if not _SMALLEST <= total <= _LARGEST or head > total - _SMALLEST:
        raise _broken(f"a message of {total} bytes with {head} of headers")
    return start + total if len(data) - start >= total else None


def _kind(head: bytes) -> tuple[str, str]:
    """Of a message: event, exception or error, and its name (an error's: its code and message)."""
    headers, at = dict[str, str](), 0
    try:
        while at < len(head):
            size = head[at]
            name, kind, at = head[at + 1 : at + 1 + size].decode(), head[at + 1 + size], at + 2 + size
            if kind in (_STRING, _BYTES):
                length = int.from_bytes(head[at : at + 2])
                headers[name], at = head[at + 2 : at + 2 + length].decode(errors="replace"), at + 2 + length
            else:
                at += _SIZES[kind]
    except (IndexError, KeyError, UnicodeDecodeError):
        raise _broken("headers that cannot be read") from None
    if headers.get(":message-type") == "error":
        return "error", f"{headers.get(':error-code')}: {headers.get(':error-message')}"
    message = headers.get(":message-type", "")
    return message, headers.get(f":{message}-type", "an event without a type")


def _told(payload: bytes) -> Any:
    """What an exception says: its JSON, or its bytes."""
    try:
        return json.loads(payload)
    except ValueError:
        return payload[:400]


def _broken(what: str) -> InvocationFailed:
    return InvocationFailed("stream", f"not an event stream: {what}", 200)
