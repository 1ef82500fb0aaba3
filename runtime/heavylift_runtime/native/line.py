"""A connection to one host that answers requests for ranges: HTTP/1.1 (RFC 9112) as far as those need it.

Not http.client, of which each request takes five times the processor's time, and each piece of a body that comes a call
of Python. An answer without a length, or with more than one, is none that is understood.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult

TIMEOUT = 60.0
"""Seconds without a byte."""
SILENCE = f"nothing came for {TIMEOUT:.0f} s"
HEAD = 64 * 1024
"""Bytes of an answer before its body, at most."""
PIECE = 8 * 1024
PORTS = {"http": 80, "https": 443}
VISIBLE, ENDS = re.compile("[!-~]+"), re.compile("[\r\n\0]")
"""All that an address may consist of; what no header may hold."""


@dataclass(frozen=True)
class Reply:
    """An answer's head. `length`: bytes of the body, where that is said; `stays`: the connection can be used again."""

    status: int
    reason: str
    length: int | None
    stays: bool


@cache
def _trusting(bundle: str | None) -> ssl.SSLContext:
    """Those whom a bundle vouches for, or else the machine's: its 144 certificates take 22 ms to read."""
    return ssl.create_default_context(cafile=bundle)


class Line:
    """One connection, for one request at a time."""

    def __init__(self, url: SplitResult) -> None:
        """OSError where the host is not to be reached, or is another one by its certificate."""
        host, port = url.hostname or "", url.port or PORTS.get(url.scheme)
        self._early = memoryview(b"")  # what came of a body with its head
        self._socket = socket.create_connection((host, port), TIMEOUT)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                context = _trusting(os.environ.get("AWS_CA_BUNDLE"))  # as botocore does
                self._socket, self._whole = context.wrap_socket(self._socket, server_hostname=host), 0
            else:  # the kernel waits until a buffer is full; Python's own timeout would have it return with each piece
                patience = struct.pack("ll", int(TIMEOUT), int(TIMEOUT % 1 * 1e6))
                self._socket.settimeout(None)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
                self._whole = socket.MSG_WAITALL
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def ask(self, url: SplitResult, headers: Mapping[str, str]) -> None:
        """GET; ValueError where the address or a header would end the line that it stands in."""
        if self._early:
            raise ValueError("an answer that goes on behind its end")
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        sent = {"Host": url.netloc.rpartition("@")[2], "Accept-Encoding": "identity", **headers}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        if not VISIBLE.fullmatch(target) or any(ENDS.search(line) for line in lines):
            raise ValueError("an address or a header with a character that may not be there")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def head(self) -> Reply:
        """The answer, up to its body; ValueError where it is none, ConnectionError where none comes."""
        came = b""
        while (end := came.find(b"\r\n\r\n")) < 0:
            try:
                piece = self._socket.recv(PIECE)
            except BlockingIOError as error:  # a plain socket's timeout
                raise TimeoutError(SILENCE) from error
            if not piece:
                raise ConnectionError("closed without an answer")
            came += piece
            if len(came) > HEAD + PIECE:
                raise ValueError(f"an answer whose head has more than {HEAD} bytes")
        self._early = memoryview(came)[end + 4 :]
        first, *lines = came[:end].decode("latin-1").split("\r\n")
        version, status, reason = (*first.split(" ", 2), "", "")[:3]
        if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
            raise ValueError(f"an answer that begins with {first[:40]!r}")
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        lengths = set(fields.get("content-length", ()))
        plain = len(lengths) == 1 and "transfer-encoding" not in fields and all(map(str.isdecimal, lengths))
        closes = any("close" in value.lower() for value in fields.get("connection", ()))
        return Reply(
            int(status), reason, int(lengths.pop()) if plain else None, stays=version == "HTTP/1.1" and not closes
        )

    def fill(self, buffer: memoryview) -> bool:
        """The next bytes of the body; False where it ends before."""
        done = min(len(self._early), len(buffer))
        buffer[:done], self._early = self._early[:done], self._early[done:]
        while done < len(buffer):
            try:
                count = self._socket.recv_into(buffer[done:], len(buffer) - done, self._whole)
            except BlockingIOError as error:
                raise TimeoutError(SILENCE) from error
            if count == 0:
                return False
            done += count
        return True
