"""One target against what was measured: pass, fail or inconclusive, with the evidence.

Not the verdict over all targets (verdict.py). The rule: let a target allow a share q of bad requests, and v of n
be bad. It passes where P(Binomial(n, q) <= v) is at most the error that this look may spend: an endpoint exactly at the
limit would rarely look so good. It fails where P(Binomial(n, q) >= v) is. Where bad requests come together, n and v are
both divided by the design effect (clusters.py). The rest is compared as observed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.binomial import at_least, at_most, most_misses, ranks
from heavylift.benchmark.clusters import design_effect
from heavylift.benchmark.looks import Plan, needed_for
from heavylift.benchmark.measurement import Measurement
from heavylift.benchmark.slo import Slo

MISSING = {
    "tokens_per_second": "the replies do not count their tokens",
    "cost_per_1m_tokens_usd": "the replies do not count their tokens, or there is no price",
    "cost_per_1k_good_requests_usd": "the subject has no price",
    "batch_invariance": "no batch was also asked row by row; 'probes' says how many are",
    "load_invariance": "no batch was also asked without load; 'probes' says how many are",
    "quality": "the workload has no right answers",
}


@dataclass(frozen=True)
class Evidence:
    """What a test of a share rests on. `effective`: as many independent requests; `allowed` violations of so many
    would pass (None: not even none); `needed` requests pass with one violation. `interval` is where the percentile lies
    with the target's confidence, in ms; None for an end that so few requests cannot bound."""

    requests: int
    violations: int
    effective: int
    allowed: int | None
    needed: int
    interval: tuple[float | None, float | None] | None


@dataclass(frozen=True)
class Judgement:
    """One target and what was measured; `value` is None for what cannot be measured, infinite for a latency at whose
    rank a request failed. `outcome` is pass, fail, inconclusive or unmeasured; `final`: no further request mends it."""

    slo: Slo
    value: float | None
    outcome: str
    final: bool = False
    evidence: Evidence | None = None

    @property
    def passed(self) -> bool | None:
        """None where it is not decided."""
        return {"pass": True, "fail": False}.get(self.outcome)

    @property
    def unmeasured(self) -> str:
        """Why there is no value."""
        return MISSING.get(self.slo.metric, "the replies are not streamed token by token")

    @property
    def sentence(self) -> str:
        """`e2e_latency p90 is 812.3 ms, limit 1.0 ms`."""
        unmeasured = self.value is None or math.isinf(self.value)
        value, limit = _figures(None if unmeasured else self.value, self.slo.limit, self.slo.definition.unit)
        target = f"{'limit' if self.slo.definition.bound == 'max' else 'at least'} {limit}"
        if self.value is None:
            return f"{self.slo.label} could not be measured, {target}"
        doubt = self._doubt if self.outcome == "inconclusive" else ""
        if unmeasured:
            why = "nothing was good" if self.slo.percentile is None else "the request at that rank failed"
            return f"{self.slo.label} has no value, because {why}, {target}{doubt}"
        return f"{self.slo.label} is {value}, {target}{doubt}"

    @property
    def _doubt(self) -> str:
        assert self.evidence is not None, "only what is tested can be inconclusive"
        found = self.evidence
        seen = f"{found.violations} of {found.requests} requests missed it"
        if found.effective < found.requests:
            seen += f" (in clusters: they weigh as {found.effective})"
        may = "none is few enough" if found.allowed is None else f"at most {found.allowed} may"
        return f", but undecided at {percent(self.slo.confidence)} confidence: {seen}, and of so many {may}"


def judge_target(slo: Slo, measurement: Measurement, plan: Plan) -> Judgement:
    """Judge one target after the measured requests so far, with the share of the error that the plan has for now."""
    value = measurement.value(slo)
    if value is None:
        return Judgement(slo, None, "unmeasured")
    if slo.bad_share is None:
        return _observed(slo, value, measurement, plan)
    marks = _bad(slo, measurement)
    if slo.metric == "itl" and measurement.answered:  # gaps of one reply share its fate: each request counts as one
        requests, effect = len(measurement.answered), max(1.0, len(marks) / len(measurement.answered))
    else:
        requests, effect = len(marks), _effect(slo, marks, measurement)
    count, effective = sum(marks), max(1, math.floor(len(marks) / effect))
    sent = len(measurement.samples)
    may_pass, may_fail = slo.risk * plan.pass_share(sent), slo.risk * plan.fail_share(sent)
    outcome = "inconclusive"
    if at_most(math.ceil(count / effect), effective, slo.bad_share) <= may_pass:
        outcome = "pass"
    elif at_least(math.floor(count / effect), effective, slo.bad_share) <= may_fail:
        outcome = "fail"
    needed = needed_for(slo, plan.pass_share(sent))
    assert needed is not None
    violations = count if slo.metric != "itl" else math.ceil(count / effect)
    allowed = most_misses(effective, slo.bad_share, may_pass)
    evidence = Evidence(requests, violations, effective, allowed, needed, _interval(slo, measurement))
    return Judgement(slo, value, outcome, outcome == "fail", evidence)


def _observed(slo: Slo, value: float, measurement: Measurement, plan: Plan) -> Judgement:
    """Compared as it is. Final where the requests still to come could not mend it."""
    met = slo.met_by(value)
    final = False
    if not met and slo.metric == "error_rate":
        final = len(measurement.samples) - len(measurement.answered) > slo.limit * plan.most_requests
    if not met and slo.metric == "quality" and measurement.rows:
        wrong = sum(row.correct is False for row in measurement.rows)
        to_come = len(measurement.rows) / len(measurement.samples) * plan.most_requests
        final = wrong > (1 - slo.limit) * to_come
    return Judgement(slo, value, "pass" if met else "fail", final)


def _bad(slo: Slo, measurement: Measurement) -> list[bool]:
    """For each measured request, in order of sending (for `itl`: each gap), whether it violates the target."""
    if slo.metric == "error_rate":
        return [not sample.ok for sample in measurement.samples]
    if slo.metric == "attainment":
        return [not good for good in measurement.good]
    return [value > slo.limit for value in measurement.tested(slo.metric)]


def _effect(slo: Slo, marks: Sequence[bool], measurement: Measurement) -> float:
    """The design effect of the violations, or, where they are few and say little, of all that took more than half the
    limit, if that is larger. What is far from the limit does not miss it together."""
    if slo.percentile is None:
        return design_effect(marks)
    near = [value > slo.limit / 2 for value in measurement.of_due(slo.metric)]
    return max(design_effect(marks), design_effect(near))


def _interval(slo: Slo, measurement: Measurement) -> tuple[float | None, float | None] | None:
    if slo.percentile is None or slo.metric == "itl":
        return None
    values = sorted(measurement.of_due(slo.metric))
    low, high = ranks(len(values), slo.percentile, slo.risk)
    ends = (None if rank is None else values[rank - 1] for rank in (low, high))
    first, last = (None if end is None or math.isinf(end) else end for end in ends)
    return first, last


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
