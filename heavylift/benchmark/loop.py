"""Sends a schedule's requests, each at its time or as soon as a client is free, and records what came back.

Not what is sent, nor when it ends (schedule.py). Threads, not an event loop: boto3 blocks, and a stream of 64 parts
costs 4.7 ms of processor through boto3 (benchmarks/generator.py: at 75 of them a second, 1 % is sent 1.2 ms late).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from heavylift.benchmark.client import READ_TIMEOUT, Client
from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.passage import Passage
from heavylift.benchmark.reply import read_reply, streamed_row, unanswered
from heavylift.benchmark.samples import Row, Sample
from heavylift.benchmark.schedule import Request, Schedule
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stream import Streamed, read_stream

Heard = Callable[[Sample], None]
ASK_S = 5.0  # seconds between two questions whether the run is still wanted


class TakenBack(Exception):
    """Nobody waits for this run any more; the message says why."""


class Loop:
    """Clients on threads. One at a time takes the next request and waits for its time; then it sends, and the next one
    takes its turn. A closed load has so many clients; an open load hires one whenever nobody is left to take a turn.

    `heard` is called with each sample, one at a time, on a client's thread. `taken_back` is asked every few seconds;
    the first reason that it gives ends the run. A request that is still under way `patience` seconds after the last
    moment at which one may be sent is recorded as a timeout, whatever its endpoint does: a stream may drip for ever.
    `start` is when, by the clock, the first arrivals are due: now, or what several generators agreed on.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        schedule: Schedule,
        client: Client,
        *,
        heard: Heard,
        taken_back: Callable[[], str | None] = lambda: None,
        patience: float = READ_TIMEOUT,
        start: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._benchmark, self._schedule, self._client, self._heard = benchmark, schedule, client, heard
        self._taken_back, self._patience = taken_back, patience
        self._clock, self._start = clock, clock() if start is None else start
        self._from_start = benchmark.load.mode == "closed" or start is not None
        self._turn, self._lock, self._end = threading.Lock(), threading.Lock(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._sending = 0
        self._samples: list[Sample] = []
        self._under_way: dict[int, tuple[Request, float, float]] = {}  # by index: what, its intended and actual send
        self._broken: BaseException | None = None

    def now(self) -> float:
        """Seconds since the start, in whole microseconds."""
        return round(self._clock() - self._start, 6)

    def drive(self) -> tuple[Sample, ...]:
        """Run to the end; samples in order of intended send. Raises what broke a client's thread, if anything did."""
        load = self._benchmark.load
        try:
            self._thread(self._probe)
            self._wait()
            self._threads.clear()
            for _ in range(1 if load.mode == "open" else load.concurrency):
                self._thread(self._be_a_client)
            self._wait()
        except BaseException as interrupt:  # Ctrl-C: nobody sends any more, and nobody waits for what is under way
            self._broken = interrupt
            self._end.set()
        if self._broken is not None:
            raise self._broken
        return tuple(sorted(self._samples, key=lambda sample: (sample.intended_s, sample.index)))

    def _wait(self) -> None:
        """Until every client is done. Raises TakenBack; gives up what is under way when patience is at its end."""
        last, asked = self._schedule.seconds + self._patience, self.now()
        for thread in self._threads:  # it grows while it is walked through
            while thread.is_alive() and self.now() < last:
                thread.join(min(ASK_S, max(0.001, last - self.now())))
                if self.now() - asked >= ASK_S:
                    asked = self.now()
                    if (reason := self._taken_back()) is not None:
                        raise TakenBack(reason)
        with self._lock:
            given_up = list(self._under_way.values())
        for request, intended, sent in given_up:
            message = f"no end of the reply {self._patience:g} s after the run's last send"
            failure = InvocationFailed("timeout", message)
            times = intended, sent, self.now()
            self._record(request, times, unanswered(request.batch), failure, None, None, Passage())

    def _thread(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _probe(self) -> None:
        """One request at a time, before the load."""
        try:
            for request in self._schedule.probes:
                if self.now() >= self._schedule.seconds:
                    break
                self._send(request, self.now())
        except BaseException as error:
            self._broken = error
            self._end.set()

    def _be_a_client(self) -> None:
        free = 0.0 if self._from_start and not self._samples else self.now()
        try:
            while (request := self._take(free)) is not None:
                free = self._send(request, free if request.intended_s is None else request.intended_s)
        except BaseException as error:
            self._broken = error
            self._end.set()

    def _take(self, free: float) -> Request | None:
        """The next request, when its time has come; None when the run is over."""
        with self._turn:
            with self._lock:
                request = None if self._broken is not None else self._schedule.take(free)
                alone = len(self._threads) == self._sending + 1
            if request is None or request.intended_s is None:
                return request
            if alone and len(self._threads) < self._benchmark.load.concurrency:
                self._thread(self._be_a_client)
            if (wait := request.intended_s - self.now()) > 0 and self._end.wait(wait):
                return None
            with self._lock:
                self._sending += 1
            return request

    def _send(self, request: Request, intended: float) -> float:
        """Send one request and record it; gives the time at which its reply had come."""
        rows, failure, streamed, parts = unanswered(request.batch), None, None, list[tuple[float, bytes]]()
        passage = Passage(self.now)
        sent = self.now()
        with self._lock:
            self._under_way[request.index] = request, intended, sent
        try:
            if self._benchmark.stream:
                for part in self._client.stream(request.body, passage):
                    parts.append((self.now(), part))
                end = self.now()
                streamed = read_stream(parts)
                rows = (streamed_row(streamed, request.batch[0]),)
            else:
                reply = self._client.invoke(request.body, passage)
                end = self.now()
                rows = read_reply(reply, request.batch, self._benchmark.api)
        except InvocationFailed as error:
            end, failure = self.now(), error
        first_byte = parts[0][0] if parts else None
        self._record(request, (intended, sent, end), rows, failure, streamed, first_byte, passage)
        return end

    def _record(
        self,
        request: Request,
        times: tuple[float, float, float],
        rows: tuple[Row, ...],
        failure: InvocationFailed | None,
        streamed: Streamed | None,
        first_byte: float | None,
        passage: Passage,
    ) -> None:
        status, error = "ok", None
        http_status: int | None = 200
        if failure is not None:
            status, http_status = "timeout" if failure.kind == "timeout" else "error", failure.http_status
            error = {"kind": failure.kind, "message": failure.message[:500]}
        content = [] if streamed is None else streamed.content_s
        sample = Sample(
            request.index, request.phase, *times, status, http_status, error, rows,
            first_byte_s=first_byte,
            first_token_s=content[0] if content else None,
            gaps_us=tuple(round((after - before) * 1e6) for before, after in itertools.pairwise(content))
            if content
            else None,
            written_s=passage.written_s,
            head_s=passage.head_s,
            server_us=passage.server_us,
        )  # fmt: skip
        with self._lock:
            if self._under_way.pop(request.index, None) is None:
                return  # it was given up meanwhile
            self._sending -= request.intended_s is not None
            self._samples.append(sample)
            self._schedule.tell(sample)
            self._heard(sample)
            if self._schedule.over:
                self._end.set()
