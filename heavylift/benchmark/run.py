"""Drives a closed loop of clients through a schedule and records every request.

Not the judgement of what it records (verdict.py).
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from heavylift.benchmark.client import Client, InvocationFailed
from heavylift.benchmark.reply import read_reply, unanswered
from heavylift.benchmark.samples import Recording, Row, Run, Sample
from heavylift.benchmark.schedule import Request, schedule
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.workload import Workload


class ClosedLoop:
    """N clients on N threads; each takes the next request of the schedule as soon as it has its reply.

    Once `seconds` have passed no request is sent any more; those under way are awaited. `heard` is called with each
    sample, one at a time, on the client's thread.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        client: Client,
        *,
        seconds: float,
        heard: Callable[[Sample], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._seconds, self._heard, self._clock = client, seconds, heard, clock
        self._left = iter(requests)
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._broken: BaseException | None = None
        self._start = 0.0

    def drive(self, clients: int) -> tuple[Sample, ...]:
        """Run to the end; samples in order of intended send. Raises what broke a client's thread, if anything did."""
        threads = [threading.Thread(target=self._be_a_client, daemon=True) for _ in range(clients)]
        self._start = self._clock()
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as interrupt:  # Ctrl-C: nobody sends any more, and nobody waits for what is under way
            self._broken = interrupt
        if self._broken is not None:
            raise self._broken
        return tuple(sorted(self._samples, key=lambda sample: (sample.intended_s, sample.index)))

    def _be_a_client(self) -> None:
        free = 0.0
        try:
            while (request := self._take(free)) is not None:
                free = self._send(request, free)
        except BaseException as error:
            self._broken = error

    def _take(self, now: float) -> Request | None:
        with self._lock:
            return None if now >= self._seconds or self._broken is not None else next(self._left, None)

    def _send(self, request: Request, intended: float) -> float:
        """Send one request and record it; gives the time at which its reply had come."""
        rows, failure = unanswered(request.batch), None
        sent = self._now()
        try:
            reply = self._client.invoke(request.body)
            end = self._now()
        except InvocationFailed as error:
            end, failure = self._now(), error
        else:
            try:
                rows = read_reply(reply, request.batch)
            except InvocationFailed as error:
                failure = error
        self._record(request, (intended, sent, end), rows, failure)
        return end

    def _record(
        self,
        request: Request,
        times: tuple[float, float, float],
        rows: tuple[Row, ...],
        failure: InvocationFailed | None,
    ) -> None:
        status, error = "ok", None
        http_status: int | None = 200
        if failure is not None:
            status, http_status = "timeout" if failure.kind == "timeout" else "error", failure.http_status
            error = {"kind": failure.kind, "message": failure.message[:500]}
        sample = Sample(request.index, request.phase, *times, status, http_status, error, rows)
        with self._lock:
            self._samples.append(sample)
            self._heard(sample)

    def _now(self) -> float:
        return round(self._clock() - self._start, 6)


def measure(
    benchmark: Benchmark,
    client: Client,
    *,
    run: str,
    endpoint: str,
    endpoint_config: str | None = None,
    gate_digest: str | None = None,
    time_limit: float | None = None,
    observe: Callable[[], str | None] = lambda: None,
    heard: Callable[[Sample], None] = lambda sample: None,
) -> Recording:
    """Run a benchmark against an endpoint.

    `time_limit` (seconds) shortens the benchmark's max_seconds; `observe` is asked after the last request which
    EndpointConfig the endpoint has. Raises FormatError for a workload that does not exist.
    """
    workload = Workload.load(benchmark.workload)
    requests = schedule(benchmark, workload)
    seconds = benchmark.max_seconds if time_limit is None else min(time_limit, benchmark.max_seconds)
    started_at = datetime.now(UTC)
    samples = ClosedLoop(requests, client, seconds=seconds, heard=heard).drive(benchmark.load.concurrency)
    about = Run(
        run=run,
        endpoint=endpoint,
        endpoint_config=endpoint_config,
        observed_endpoint_config=observe(),
        gate_digest=gate_digest,
        benchmark=benchmark,
        workload_digest=workload.digest,
        started_at=started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        time_limit_s=seconds,
        generator=generator(),
    )
    return Recording(about, samples)


def run_name(gate_digest: str | None, now: datetime | None = None) -> str:
    """`20261120T235959Z-1a2b3c4d`: sorts by time, and says which gate it was; `adhoc` where there is no gate."""
    at = datetime.now(UTC) if now is None else now
    return f"{at:%Y%m%dT%H%M%SZ}-{'adhoc' if gate_digest is None else gate_digest[:8]}"


def generator() -> str:
    """Where the load comes from, for the report."""
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    where = f"Lambda with {memory} MB" if memory else f"{os.cpu_count()} CPUs"
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {where}"
