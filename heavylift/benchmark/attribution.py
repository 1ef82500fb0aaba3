"""Where the time of an average request went: the client, the network, SageMaker, the model.

Not a percentile: means add up, and those of the parts are the mean latency, exactly. Each part says how it is known:
timed by the client, told by the server (passage.py), told by CloudWatch (overhead.py), or what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.samples import Sample

TIMED, TOLD, METRIC, REST = "timed here", "the server's own clock", "CloudWatch", "what remains"


@dataclass(frozen=True)
class Part:
    """`group` is client, network, sagemaker, model, or between (network, SageMaker and model, not told apart)."""

    group: str
    name: str
    ms: float
    how: str


@dataclass(frozen=True)
class Attribution:
    """Means over so many requests; the parts come in the order of a request's life and sum to `mean_ms`. `note` says
    why something is not told apart, or is empty."""

    requests: int
    mean_ms: float
    parts: tuple[Part, ...]
    note: str


def attributed(answered: Sequence[Sample], *, stream: bool, overhead: Overhead | None) -> Attribution | None:
    """Of the answered measured requests: those with the server's times, if there are any, else all whose client has
    timed the way; None where none has, as in files of older versions."""
    timed = [sample for sample in answered if sample.written_s is not None and sample.head_s is not None]
    chosen = [sample for sample in timed if sample.server_us is not None] or timed
    if not chosen:
        return None
    way = _Way(chosen, stream)
    parts, note = way.parts(overhead)
    return Attribution(len(chosen), _ms(chosen, lambda sample: sample.end_s - sample.intended_s), parts, note)


class _Way:
    """The stations of an average request, in ms."""

    def __init__(self, samples: Sequence[Sample], stream: bool) -> None:
        self._stream = stream
        self.waiting = _ms(samples, lambda sample: sample.sent_s - sample.intended_s)
        self.preparing = _ms(samples, lambda sample: (sample.written_s or 0) - sample.sent_s)
        self.to_head = _ms(samples, lambda sample: (sample.head_s or 0) - (sample.written_s or 0))
        self.after_head = _ms(samples, lambda sample: sample.end_s - (sample.head_s or 0))
        self.server, self.queue = (_told(samples, name) for name in ("total", "queue"))

    def parts(self, overhead: Overhead | None) -> tuple[tuple[Part, ...], str]:
        """In order, and a note."""
        away = self.to_head + (0.0 if self._stream else self.after_head)  # a whole reply's body comes over the network
        between, note = self._between(away, overhead)
        ends = [
            Part("client", "waiting to be sent", self.waiting, TIMED),
            Part("client", "preparing the request", self.preparing, TIMED),
        ]
        rest = [Part("model", "generating the rest", self.after_head, TIMED)] if self._stream else []
        return (*ends, *between, *rest), note

    def _between(self, away: float, overhead: Overhead | None) -> tuple[list[Part], str]:
        """From the client's sending to the head of a stream, or to the end of a whole reply."""
        model = list(self._model(overhead))
        if not model:
            name = "network, SageMaker and model" + (", to the first part" if self._stream else "")
            return [Part("between", name, away, TIMED)], "the server does not tell its times, nor does CloudWatch"
        left = away - sum(part.ms for part in model)
        if overhead is not None and 0 <= overhead.overhead_ms <= left:
            own = Part("sagemaker", "SageMaker's overhead", overhead.overhead_ms, METRIC)
            return [Part("network", "network", left - own.ms, REST), own, *model], ""
        note = "without CloudWatch's metrics the network and SageMaker are not told apart"
        if overhead is not None:
            note = f"CloudWatch's overhead, {overhead.overhead_ms:.2f} ms, is more than what remains: it is of all "
            note += "requests in the same minutes"
        return [Part("network", "network and SageMaker", left, REST), *model], note

    def _model(self, overhead: Overhead | None) -> Iterator[Part]:
        computing = "computing to the first token" if self._stream else "computing"
        if self.server is not None:
            queue = 0.0 if self.queue is None else self.queue
            if self.queue is not None:
                yield Part("model", "waiting for the engine", queue, TOLD)
            yield Part("model", computing, self.server - queue, TOLD)
        elif overhead is not None:
            yield Part("model", computing, overhead.model_ms, METRIC)


def _told(samples: Sequence[Sample], name: str) -> float | None:
    """A time of the server's, where each of the samples has it."""
    told = [sample.server_us[name] for sample in samples if sample.server_us is not None and name in sample.server_us]
    return fmean(told) / 1000 if len(told) == len(samples) else None


def _ms(samples: Sequence[Sample], seconds: Callable[[Sample], float]) -> float:
    return fmean(map(seconds, samples)) * 1000
