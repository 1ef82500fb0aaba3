"""What is sent next, and when a run is over: probes, warm-up, measurement, drain.

Not the sending (loop.py). Prompts and the times of an open load depend on the seed alone: those of the measurement are
the same however long the warm-up took, and no late send moves a later one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from heavylift.benchmark.arrivals import arrivals, before
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.looks import Plan
from heavylift.benchmark.reply import request_body
from heavylift.benchmark.samples import Sample
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stationary import Stationary, steady
from heavylift.benchmark.workload import Example, Workload

Decide = Callable[[Sequence[Sample]], bool]


@dataclass(frozen=True)
class Request:
    """One request: its place in the order of sending, phase, batch and body; `intended_s` None: as soon as possible."""

    index: int
    phase: str
    batch: tuple[Example, ...]
    body: bytes
    intended_s: float | None = None


class Schedule:
    """The course of one run, told of each reply. Not safe for threads: the loop asks and tells under its lock.

    The warm-up takes the prompts that the measurement comes to last, and hands over without a pause. After the last
    measured request the load is kept up (`drain`) until each of them has its reply. `decide` is asked at the plan's
    looks whether the first so many measured samples settle the verdict.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        workload: Workload,
        *,
        seconds: float | None = None,
        decide: Decide = lambda samples: False,
    ) -> None:
        self.plan: Plan = benchmark.plan
        self.stopped: str | None = None
        self.stationary: Stationary | None = None
        self.cut: int | None = None  # the index of the first measured request that the decision did not see
        self._benchmark, self._decide = benchmark, decide
        self.seconds, self._limit = benchmark.max_seconds if seconds is None else seconds, "time"
        if benchmark.max_usd is not None and benchmark.usd_per_second:
            affordable = benchmark.max_usd / benchmark.usd_per_second
            if affordable < self.seconds:
                self.seconds, self._limit = affordable, "budget"
        size, seed = benchmark.batch, benchmark.deal
        self._phase = "warmup"
        self._load = benchmark.load
        if isinstance(self._load, OpenLoad) and self._load.replays:
            self._load = self._load.timed(workload.times_s)
        self._decks = {
            "warmup": workload.batches(size, seed=seed, last_first=True),
            "measure": workload.batches(size, seed=seed),
        }
        if self._load is not benchmark.load:
            self._decks["measure"] = workload.in_order()
        self._index = itertools.count()
        self._times: Iterator[float] | None = None
        self._origin = 0.0
        self._last: float | None = None  # the last arrival of an open load
        self._cut_short = False
        self._warmups = 0
        self._warm: dict[int, float] = {}  # latency by place among the warm-up requests
        self._order: list[int] = []  # indices of the measured requests, in order of sending
        self._replies: dict[int, Sample] = {}
        self._looked = 0

    @property
    def probes(self) -> Iterator[Request]:
        """Sent one at a time before the load: the first measured batches, and each of their rows alone."""
        first = self._deck("measure", self._benchmark.probes)
        for batch in first:
            yield self._request("quiet", batch)
            if len(batch) > 1:
                yield from (self._request("alone", (example,)) for example in batch)

    def _deck(self, phase: str, count: int) -> list[tuple[Example, ...]]:
        """The next batches of a phase, which stay where they are."""
        taken = list(itertools.islice(self._decks[phase], count))
        self._decks[phase] = itertools.chain(taken, self._decks[phase])
        return taken

    @property
    def over(self) -> bool:
        """Whether nothing more is to be sent."""
        return self.stopped is not None and not self._due

    @property
    def _due(self) -> bool:
        """Whether the load must be kept up for measured requests that are under way."""
        return self.stopped == "planned" and len(self._replies) < len(self._order) and not self._cut_short

    def take(self, now: float) -> Request | None:
        """The next request; None when the run is over. `now` is when a client became free, in seconds."""
        if self.over:
            return None
        if now >= self.seconds:
            self._stop(self._limit)
            return None
        if self._phase == "warmup" and self._warmed_up():
            self._phase, self._times = "measure", None
        if self.stopped == "unsteady":
            return None
        phase = "drain" if self.stopped == "planned" else self._phase
        intended = self._next_time(now)
        if intended is not None and intended >= self.seconds:
            self._stop(self._limit)
            return None
        request = self._request(phase, next(self._decks[self._phase]), intended)
        if phase == "measure":
            self._order.append(request.index)
            if len(self._order) == self.plan.most_requests:
                self.stopped = "planned"
        self._warmups += phase == "warmup"
        return request

    def tell(self, sample: Sample) -> None:
        """Take note of a reply, and stop where the verdict is settled."""
        if sample.phase == "warmup":
            self._warm[sample.index] = sample.latency_ms
        if sample.phase != "measure":
            return
        self._replies[sample.index] = sample
        if self.stopped not in (None, "planned"):
            return
        for count in self.plan.counts[self._looked :]:
            seen = self._order[:count]
            if len(seen) < count or not all(index in self._replies for index in seen):
                return
            self._looked += 1
            if self._decide([self._replies[index] for index in seen]):
                self.stopped = "decided" if count < self.plan.most_requests else "planned"
                self.cut = self._order[count] if count < len(self._order) else None
                return

    def _stop(self, why: str) -> None:
        self.stopped = why if self.stopped is None else self.stopped
        self._cut_short = True  # the drain, too, ends with the time

    def _warmed_up(self) -> bool:
        warmup = self._benchmark.warmup
        if self._warmups < self._benchmark.warmup_requests:
            return False
        if warmup is None:
            return True
        done = [self._warm[index] for index in sorted(self._warm)]
        if self.stationary is None or len(done) - self.stationary.after_requests >= warmup.window:
            self.stationary = steady(done, warmup.window)
            if not self.stationary.reached and len(done) >= warmup.max_requests:
                self.stopped = "unsteady"
        return self.stationary.reached

    def _next_time(self, now: float) -> float | None:
        load = self._load
        if not isinstance(load, OpenLoad):
            return None
        if self._times is None:
            source = arrivals if self._phase == "measure" else before
            # A phase's times begin at the last arrival of the phase before: no pause, and no arrival bunches.
            self._times, self._origin = source(load, self._benchmark.deal), now if self._last is None else self._last
        self._last = self._origin + next(self._times)
        return self._last

    def _request(self, phase: str, batch: tuple[Example, ...], intended: float | None = None) -> Request:
        asked = self._benchmark
        body = request_body(batch, api=asked.api, stream=asked.stream, model=asked.subject.model)
        return Request(next(self._index), phase, batch, body, intended)
