"""The load of a benchmark: closed (clients that wait for their replies) or open (arrivals that wait for nobody).

Not the times of the sends (arrivals.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError

MOST_IN_FLIGHT = 900  # a Lambda has 1024 file descriptors and threads (AWS Lambda developer guide, "Lambda quotas")
RATE = Field(float, least=0.001, most=10_000)
MOST_GENERATORS = 100  # a tenth of the Lambdas that an account runs at a time, unless it has asked for more
MODE = Field(str, choices=("closed", "open"))
CLOSED: Mapping[str, Field] = {"mode": MODE, "concurrency": Field(int, least=1, most=MOST_IN_FLIGHT)}
ARRIVALS: Mapping[str, Mapping[str, Field]] = {
    "poisson": {"rate": RATE},
    "constant": {"rate": RATE},
    "gamma": {"rate": RATE, "cv": Field(float, least=0.01, most=20)},
    "ramp": {"rate": RATE, "to_rate": RATE, "ramp_s": Field(float, least=0.001, most=86_400)},
    "trace": {},
}


@dataclass(frozen=True)
class ClosedLoad:
    """`concurrency` clients, each of which sends again as soon as it has its reply."""

    mode: str
    concurrency: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class OpenLoad:
    """Arrivals at `rate` requests a second (a trace: its mean rate, 0 where its times are the workload's own); what a
    kind of arrivals does not use is 0. So many `generators` share them: only Poisson arrivals can be shared without a
    coordinator."""

    mode: str
    arrivals: str
    rate: float
    cv: float = 0.0
    to_rate: float = 0.0
    ramp_s: float = 0.0
    times_s: tuple[float, ...] = ()
    max_in_flight: int = 256
    generators: int = 1

    @property
    def concurrency(self) -> int:
        """The most requests under way at a time."""
        return self.max_in_flight

    @property
    def replays(self) -> bool:
        """Whether the workload tells when each of its prompts is due."""
        return self.arrivals == "trace" and not self.times_s

    def timed(self, times_s: tuple[float, ...]) -> OpenLoad:
        """A trace with its times, ascending from 0."""
        return replace(self, times_s=times_s, rate=(len(times_s) - 1) / times_s[-1])

    def to_dict(self) -> dict[str, Any]:
        said = {key: getattr(self, key) for key in ARRIVALS[self.arrivals]}
        said |= {"times_s": list(self.times_s)} if self.times_s else {}
        said |= {"generators": self.generators} if self.generators > 1 else {}
        return {"mode": "open", "arrivals": self.arrivals, **said, "max_in_flight": self.max_in_flight}


Load = ClosedLoad | OpenLoad


def load_from(document: Mapping[str, Any]) -> Load:
    """Raises FormatError with every fault."""
    if document.get("mode") != "open":
        if found := shape.faults(document, CLOSED, "load"):
            raise FormatError(found)
        return ClosedLoad(**document)
    kind = document.get("arrivals")
    if not isinstance(kind, str) or kind not in ARRIVALS:
        raise FormatError([f"load.arrivals is {kind!r}; allowed: {', '.join(ARRIVALS)}"])
    required = {"mode": MODE, "arrivals": Field(str), **ARRIVALS[kind]}
    optional = {"max_in_flight": Field(int, least=1, most=MOST_IN_FLIGHT)}
    if kind == "trace":
        optional |= {"times_s": Field(list)}
    if kind == "poisson":
        most = MOST_GENERATORS * MOST_IN_FLIGHT if document.get("generators", 1) != 1 else MOST_IN_FLIGHT
        optional = {
            "max_in_flight": Field(int, least=1, most=most),
            "generators": Field(int, least=1, most=MOST_GENERATORS),
        }
    found = shape.faults(document, required, "load", optional)
    times = document.get("times_s", [])
    if kind == "trace" and "times_s" in document and not found:
        numbers = all(type(time) in (int, float) and 0 <= time <= 86_400 for time in times)
        if len(times) < 2 or not numbers or sorted(times) != times or times[-1] == 0:
            found = ["load.times_s must be at least two times in seconds, from 0, in order"]
    if found:
        raise FormatError(found)
    rest = {key: value for key, value in document.items() if key != "times_s"}
    made = OpenLoad(**({"rate": 0.0} | rest))
    return made.timed(tuple(map(float, times))) if times else made
