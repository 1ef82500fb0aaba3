"""The frames of a response stream, application/vnd.amazon.eventstream.

Total length, header length, CRC of both; the headers; the payload; the CRC of all before
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html).
Not the HTTP around them: that is invoke.py.
"""

from __future__ import annotations

import json
import struct
import zlib

_STRING = 7  # the header's value type


def part(payload: bytes) -> bytes:
    """A PayloadPart event: bytes of the model's answer, cut anywhere."""
    return _frame(
        payload, {"message-type": "event", "event-type": "PayloadPart", "content-type": "application/octet-stream"}
    )


def cut(answer: bytes) -> list[bytes]:
    """What came of an answer, as two parts, cut within a character of several bytes where there is one, else halfway.

    SageMaker promises nothing of where its parts end (PayloadPart, API reference); a client that takes a part for a
    line, a token or a text shall fail here and not there.
    """
    inner = next((place for place, byte in enumerate(answer) if byte & 0xC0 == 0x80), len(answer) // 2)
    return [part for part in (answer[:inner], answer[inner:]) if part]


def failure(kind: str, message: str, code: str) -> bytes:
    """An exception event, such as ModelStreamError: the last frame of a stream that broke."""
    payload = json.dumps({"Message": message, "ErrorCode": code}).encode()
    return _frame(payload, {"message-type": "exception", "exception-type": kind, "content-type": "application/json"})


def _frame(payload: bytes, headers: dict[str, str]) -> bytes:
    head = b"".join(_header(f":{name}".encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value
