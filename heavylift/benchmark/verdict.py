"""The verdict on a recording: PASS, FAIL or VOID, and why. A pure function of the recording.

Not statistics: each target is compared plainly with the number measured. VOID means that the measurement cannot judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.measurement import Measurement
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.slo import Slo


@dataclass(frozen=True)
class Judgement:
    """One target and what was measured; `value` is None for what cannot be measured, infinite for a latency at whose
    rank a request failed. `passed` is None when there is no value."""

    slo: Slo
    value: float | None

    @property
    def passed(self) -> bool | None:
        return None if self.value is None else self.slo.met_by(self.value)

    @property
    def sentence(self) -> str:
        """`e2e_latency p90 is 812.3 ms, limit 1.0 ms`."""
        unmeasured = self.value is None or math.isinf(self.value)
        value, limit = _figures(None if unmeasured else self.value, self.slo.limit, self.slo.definition.unit)
        target = f"{'limit' if self.slo.definition.bound == 'max' else 'at least'} {limit}"
        if self.value is None:
            return f"{self.slo.label} could not be measured, {target}"
        if unmeasured:
            return f"{self.slo.label} has no value, because the request at that rank failed, {target}"
        return f"{self.slo.label} is {value}, {target}"


@dataclass(frozen=True)
class Verdict:
    """`verdict` is VOID when `void` has a reason, else FAIL when a judgement failed, else PASS."""

    judgements: tuple[Judgement, ...]
    void: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.void:
            return "VOID"
        return "PASS" if all(judgement.passed for judgement in self.judgements) else "FAIL"

    @property
    def missed(self) -> tuple[Judgement, ...]:
        return tuple(judgement for judgement in self.judgements if judgement.passed is False)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Why it is not PASS: the reasons for VOID, then each missed target."""
        return (*self.void, *(judgement.sentence for judgement in self.missed))


def judge(recording: Recording, slo: Sequence[Slo] | None = None) -> Verdict:
    """Judge a recording by its own benchmark's targets, or by others."""
    measurement = Measurement(recording)
    targets = recording.run.benchmark.slo if slo is None else slo
    judgements = tuple(Judgement(target, measurement.value(target)) for target in targets)
    return Verdict(judgements, tuple(_void(recording, judgements)))


def _void(recording: Recording, judgements: Sequence[Judgement]) -> list[str]:
    run, benchmark, sent = recording.run, recording.run.benchmark, len(recording.measured)
    reasons = []
    if run.observed_endpoint_config != run.endpoint_config:
        reasons.append(
            f"after the last request the endpoint had the config {run.observed_endpoint_config}, "
            f"not {run.endpoint_config}: something else was measured"
        )
    if sent < benchmark.requests:
        count = f"only {sent} of {benchmark.requests} measured requests were" if sent else "no measured request was"
        reasons.append(f"{count} sent in {run.time_limit_s:g} s, the time limit")
    if sent:
        reasons += [
            f"{judgement.slo.label} cannot be judged: the replies do not count their tokens"
            for judgement in judgements
            if judgement.value is None
        ]
    return reasons


def percent(share: float, digits: int = 2) -> str:
    """0.9917 is `99.17 %`; only all is `100 %`, and only nothing is `0 %`."""
    least = 10.0**-digits
    shown = share * 100 if share in (0, 1) else min(max(round(share * 100, digits), least), 100 - least)
    return f"{shown:.{digits}f}".rstrip("0").rstrip(".") + " %"


def _figures(value: float | None, limit: float, unit: str) -> tuple[str, str]:
    """`812.3 ms` and `1.0 ms`; shares as percentages. With as many digits as it takes to show the limit, and to tell
    the value from it."""
    shown, texts = limit if value is None else value, ("", "")
    for digits in (1, 2, 3, 6):
        if unit == "share":
            texts = percent(shown, digits + 1), percent(limit, digits + 1)
        else:
            texts = f"{shown:.{digits}f} {unit}", f"{limit:.{digits}f} {unit}"
        exact = math.isclose(round(limit, digits), limit) or unit == "share"
        if exact and (texts[0] != texts[1] or shown == limit):
            break
    return texts
