"""The messages between the server and its rank processes. Not HTTP, and no meaning: that is in worker.py and server/.

A message is a JSON header and raw bytes. On the channel (an inherited Unix socket): two big-endian u32, the sizes of
the header and of the body in bytes, then both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

_SIZES = struct.Struct(">II")
# what json.dumps and json.loads do around these takes as long where a model has just gone through the caches
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_DECODE = json.JSONDecoder().raw_decode
_CHUNK = 2**18  # bytes at a time
_LIMIT = 2**31  # bytes; far more than a batch of SageMaker's largest payloads, so only a broken peer gets here


class HungUp(EOFError):
    """The other end of the channel is closed."""


class Message(NamedTuple):
    """A header, whose `type` says what it is, and a body. (A tuple, for it is made more quickly.)"""

    header: dict[str, Any]
    body: bytes = b""

    @property
    def type(self) -> str:
        """What the message is."""
        return str(self.header["type"])

    def encode(self) -> bytes:
        """The bytes of the channel."""
        header = _ENCODE(self.header).encode(errors="surrogatepass")  # as json.loads reads it
        return _SIZES.pack(len(header), len(self.body)) + header + self.body


def _sizes(held: bytearray, at: int) -> tuple[int, int]:
    header, body = _SIZES.unpack_from(held, at)
    if header > _LIMIT or body > _LIMIT:
        raise EOFError(
            f"a message of {header} + {body} bytes on the channel, at most {_LIMIT} each: the peer is broken"
        )
    return header, body


def _read(held: bytearray, at: int, middle: int, end: int) -> Message:
    """The message whose header and body end there; raises ValueError where the header is not JSON."""
    header = held[at + _SIZES.size : middle].decode(errors="surrogatepass")
    found, read = _DECODE(header)
    if read != len(header):
        raise ValueError(f"{len(header) - read} characters after a message's header: the peer is broken")
    return Message(found, bytes(held[middle:end]))


class Frames(asyncio.Protocol):
    """The server's end: gives each message to `hear` as soon as it is whole, without a task of its own."""

    def __init__(self, hear: Callable[[Message], None], broken: Callable[[Exception], None]) -> None:
        """`broken` is told, once, of a message that cannot be read or that `hear` cannot take; nothing follows it."""
        self.over = asyncio.Event()  # the rank's end is closed
        self._hear = hear
        self._broken = broken
        self._transport: asyncio.BaseTransport | None = None
        self._held = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        at = 0
        try:
            while len(held) - at >= _SIZES.size:
                header, body = _sizes(held, at)
                end = at + _SIZES.size + header + body
                if end > len(held):
                    break
                message = _read(held, at, end - body, end)
                at = end
                self._hear(message)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            at = len(held)
            if self._transport is not None:
                self._transport.close()
            self._broken(error)
        del held[:at]

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()


class Channel:
    """The rank's end, blocking; one thread receives, any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = bytearray()
        self._sending = threading.Lock()
        self._there = select.poll()
        self._there.register(connection, select.POLLIN)

    def receive(self) -> Message:
        """The next message; raises HungUp where the server has gone."""
        while (message := self._take()) is None:
            self._fill()
        return message

    def poll(self) -> Message | None:
        """The next message if it is there; raises HungUp where the server has gone."""
        if (message := self._take()) is not None or not self._there.poll(0):
            return message
        self._fill()
        return self._take()

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one message whole; raises HungUp where the server has gone."""
        try:
            with self._sending:
                self._connection.sendall(Message(header, body).encode())
        except OSError as error:
            raise HungUp("the channel is closed") from error

    def wait_for_end(self) -> None:
        """Until the server has closed its end, whatever it has sent; wakes for nothing else."""
        hung_up = select.poll()
        hung_up.register(self._connection, select.POLLRDHUP)
        hung_up.poll()

    def hang_up(self) -> None:
        """No more messages, either way; a thread that waits for one gets EOFError."""
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._connection.close()

    def _take(self) -> Message | None:
        held = self._held
        if len(held) < _SIZES.size:
            return None
        header, body = _sizes(held, 0)
        middle = _SIZES.size + header
        if len(held) < middle + body:
            return None
        message = _read(held, 0, middle, middle + body)
        del held[: middle + body]
        return message

    def _fill(self) -> None:
        data = self._connection.recv(_CHUNK)
        if not data:
            raise HungUp("the channel is closed")
        self._held += data
