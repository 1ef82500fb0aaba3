"""uvicorn's HTTP protocol with limits on a client's time and on its heads. Not limits on bodies: those are in body.py.

uvicorn closes a connection that is idle between two requests, but waits for ever for the first request, for the rest
of half a header, and for a client that does not read its reply; its parser in C (llhttp) keeps a header of any size.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from heavylift_runtime.server.attending import UNSOUND, Departure
from heavylift_runtime.server.gathered import Gathered
from heavylift_runtime.server.until_close import until_close

HEADER_SECONDS = 10.0
STALLED_SECONDS = 30.0  # in which a client must read so much of what waits to be sent to it, or all that is left
LEAST_READ = 65_536  # bytes
LARGEST_HEAD = 65_536  # bytes of a request's line and headers, and of its trailers
MOST_PIPELINED = 8  # requests that a client may send before it has the answer to the first
VERSIONS = ("1.0", "1.1")
INVALID = "Invalid HTTP request received."


class Unsound(ValueError):
    """A head that the parser takes, and this server does not."""


class ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection on which no whole header has arrived in time, or whose client does not read."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    _in_head = _begun = _deaf = False
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(Gathered(transport, self.loop, self._see_read))
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._begun = False
        try:
            self.parser.feed_data(data)
            if self._in_head and not self._begun:
                self._grow(len(data))  # also of a header that has no end yet
        except httptools.HttpParserUpgrade as offer:
            declined = self._declined()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.data_received(declined + data[offer.args[0] :])
            return
        except (httptools.HttpParserError, Unsound):
            self._refuse()
        self._watch()

    def on_message_begin(self) -> None:
        self._in_head = self._begun = True
        self._head = 0
        super().on_message_begin()
        self.scope["extensions"] = Departure(self._reads).extension()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + 4)
        if self._in_head:  # else it is a trailer: the request is under way without it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in VERSIONS or hosts > 1 or (version == "1.1" and hosts == 0):  # RFC 9112, sections 2.3 and 3.2
            raise Unsound
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            raise Unsound  # a coding that nobody here undoes (section 6.1)
        if len(self.pipeline) == MOST_PIPELINED or self.parser.get_method() == b"CONNECT":
            raise Unsound
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self.flow.resume_reading()  # a large body may have paused it, and so hidden that the client goes

    def _refuse(self) -> None:
        """Nothing that follows can be read. Who was asked before is answered; those that wait behind it are not."""
        self._deaf = True
        self.pipeline.clear()
        if self._running is None or self._running.response_complete:
            self.send_400_response(INVALID)
        elif not self._running.more_body:
            self._running.keep_alive = False
        else:  # its own body is what cannot be read
            Departure.of({**self._running.scope}).tell(UNSOUND)
            if not self._running.response_started:
                self.send_400_response(INVALID)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        self._go_on()
        if self._running is not None and not self._running.response_complete:  # uvicorn tells the last one only
            self._running.disconnected = True
            self._running.message_event.set()
            Departure.of({**self._running.scope}).tell()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._see_read()

    def resume_writing(self) -> None:
        self._go_on()
        super().resume_writing()
        if self.transport.is_closing():
            self._see_read()

    def on_response_complete(self) -> None:
        """The reply leaves before its visit is told to the log and the metrics."""
        if isinstance(self.transport, Gathered):
            self.transport.flush()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        plain = cycle.scope["http_version"] == "1.0"
        super()._start_asgi_task(cycle, until_close(app, cycle) if plain else app)

    def _reads(self) -> bool:
        return not (self.flow.write_paused or self.transport.is_closing())

    def _declined(self) -> bytes:
        """The head once more, without its offer to speak another protocol, which RFC 9110 (7.8) lets a server ignore:
        the parser skips the body of a request that has one, and Java's client makes one with every first request."""
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return line + b"".join(b"%b: %b\r\n" % field for field in kept) + b"\r\n"

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > LARGEST_HEAD:
            raise Unsound

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._relax()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _see_read(self) -> None:
        """From now on what waits to be sent must become less; no more is written before it has, or ever."""
        waiting = self.transport.get_write_buffer_size()
        if self._stalled is None and waiting:
            self._stalled = self.loop.call_later(STALLED_SECONDS, self._look, waiting)

    def _look(self, waited: int) -> None:
        self._stalled = None
        if waited - self.transport.get_write_buffer_size() < LEAST_READ:
            self.transport.abort()
        else:
            self._see_read()

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
