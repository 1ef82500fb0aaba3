"""The messages between the server and its rank processes. Not HTTP, and no meaning: that is in worker.py and server/.

A message is a JSON header and raw bytes. On the channel (an inherited Unix socket): two big-endian u32, the sizes of
the header and of the body in bytes, then both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

_SIZES = struct.Struct(">II")
_LIMIT = 2**31  # bytes; far more than a batch of SageMaker's largest payloads, so only a broken peer gets here


@dataclass(frozen=True)
class Message:
    """A header, whose `type` says what it is, and a body."""

    header: dict[str, Any]
    body: bytes = b""

    @property
    def type(self) -> str:
        """What the message is."""
        return str(self.header["type"])

    def encode(self) -> bytes:
        """The bytes of the channel."""
        header = json.dumps(self.header, ensure_ascii=False).encode(errors="surrogatepass")  # as json.loads reads it
        return _SIZES.pack(len(header), len(self.body)) + header + self.body


def _sizes(head: bytes) -> tuple[int, int]:
    header, body = _SIZES.unpack(head)
    if header > _LIMIT or body > _LIMIT:
        raise EOFError(
            f"a message of {header} + {body} bytes on the channel, at most {_LIMIT} each: the peer is broken"
        )
    return header, body


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message, in the server; raises EOFError where the rank has closed its end."""
    try:
        header, body = _sizes(await reader.readexactly(_SIZES.size))
        return Message(json.loads(await reader.readexactly(header)), await reader.readexactly(body))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError("the channel is closed") from error


class Channel:
    """The rank's end, blocking; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._sending = threading.Lock()

    def receive(self) -> Message:
        """The next message; raises EOFError where the server has gone."""
        header, body = _sizes(self._exactly(_SIZES.size))
        return Message(json.loads(self._exactly(header)), self._exactly(body))

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one message whole."""
        with self._sending:
            self._connection.sendall(Message(header, body).encode())

    def hang_up(self) -> None:
        """No more messages, either way; a thread that waits for one gets EOFError."""
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._file.close()
        self._connection.close()

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise EOFError("the channel is closed")
        return data
