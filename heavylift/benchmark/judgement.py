"""One target against what was measured: pass, fail or inconclusive, with the evidence.

Not the verdict over all targets (verdict.py). The rule: let a target allow a share q of bad requests, and v of n
be bad. It passes where P(Binomial(n, q) <= v) is at most the error that this look may spend: an endpoint exactly at the
limit would rarely look so good. It fails where P(Binomial(n, q) >= v) is. Where bad requests come together, n and v are
both divided by the design effect (clusters.py). A target that lets nothing be bad fails by one that is, and passes
where q, what it tolerates unseen, is ruled out. Rates, and costs, which are rates bought, are tested by batch means
(rates.py). An invariance is a share of the prompts that were compared: the probes are a sample of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.beta import share_interval
from heavylift.benchmark.binomial import at_least, at_most, most_misses, ranks
from heavylift.benchmark.clusters import design_effect
from heavylift.benchmark.looks import Plan, needed_for, probes_for
from heavylift.benchmark.measurement import PER, Measurement
from heavylift.benchmark.rates import RATES
from heavylift.benchmark.slo import INVARIANCES, Slo

MISSING = {
    "tokens_per_second": "the replies do not count their tokens",
    "cost_per_1m_tokens_usd": "the replies do not count their tokens, or there is no price",
    "cost_per_1k_good_requests_usd": "the subject has no price",
    "batch_invariance": "no batch was also asked row by row; 'probes' says how many are",
    "load_invariance": "no batch was also asked without load; 'probes' says how many are",
    "quality": "the workload has no right answers",
}


COUNTED = {"quality": "rows", **dict.fromkeys(INVARIANCES, "prompts")}  # all others are of requests


@dataclass(frozen=True)
class Evidence:
    """What a test rests on: so many requests, rows or prompts (COUNTED). Of a share: `effective`, as many independent
    ones; `allowed` violations of so many would pass (None: not even none). Of a rate: `batches`, 0 of too few requests.
    `needed` requests, of an invariance probes, pass with one violation. `interval` is where the value lies with the
    target's confidence, in its unit; None for an end that so few cannot bound."""

    requests: int
    needed: int
    interval: tuple[float | None, float | None] | None
    violations: int | None = None
    effective: int | None = None
    allowed: int | None = None
    batches: int | None = None


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
        found, sure = self.evidence, percent(self.slo.confidence)
        if found.batches == 0:
            return f", but undecided: {found.requests} requests are too few for an interval, {found.needed} are not"
        if found.batches is not None:
            ends = found.interval or (None, None)
            low, high = (_figures(end, self.slo.limit, self.slo.definition.unit)[0] for end in ends)
            return f", but undecided at {sure} confidence: by {found.batches} batches it lies between {low} and {high}"
        assert found.violations is not None and found.effective is not None
        seen = f"{found.violations} of {found.requests} {self.counted} missed it"
        if found.effective < found.requests:
            seen += f" (in clusters: they weigh as {found.effective})"
        if self.slo.strict:
            units = "probes" if self.slo.metric in INVARIANCES else "requests"
            shown = f"{found.needed} {units} show at {sure} confidence that under {self._tolerated} do"
            return f", but undecided: {seen}; {shown}"
        may = "none is few enough" if found.allowed is None else f"at most {found.allowed} may"
        return f", but undecided at {sure} confidence: {seen}, and of so many {may}"

    @property
    def _tolerated(self) -> str:
        return percent(self.slo.bad_share or 0)

    @property
    def counted(self) -> str:
        """What the evidence counts."""
        return COUNTED.get(self.slo.metric, "requests")


def judge_target(slo: Slo, measurement: Measurement, plan: Plan) -> Judgement:
    """Judge one target after the measured requests so far, with the share of the error that the plan has for now."""
    value = measurement.value(slo)
    if value is None:
        return Judgement(slo, None, "unmeasured")
    sent = len(measurement.samples)
    risks = slo.risk * plan.pass_share(sent), slo.risk * plan.fail_share(sent)
    if slo.metric in RATES and (slo.limit > 0 or slo.metric not in PER):
        return _rate(slo, value, measurement, risks)
    if slo.bad_share is None:
        return Judgement(slo, value, "pass" if slo.met_by(value) else "fail")
    return _share(slo, value, measurement, risks, plan.pass_share(sent))


def _share(slo: Slo, value: float, measurement: Measurement, risks: tuple[float, float], spent: float) -> Judgement:
    """A share of bad requests, against the one that the target allows."""
    assert slo.bad_share is not None
    marks, (may_pass, may_fail) = _bad(slo, measurement), risks
    if slo.metric == "itl" and measurement.answered:  # gaps of one reply share its fate: each request counts as one
        requests, effect = len(measurement.answered), max(1.0, len(marks) / len(measurement.answered))
    else:
        requests, effect = len(marks), _effect(slo, marks, measurement)
    count, effective = sum(marks), max(1, math.floor(len(marks) / effect))
    outcome = "inconclusive"
    if slo.strict and count:
        outcome = "fail"
    elif at_most(math.ceil(count / effect), effective, slo.bad_share) <= may_pass:
        outcome = "pass"
    elif not slo.strict and at_least(math.floor(count / effect), effective, slo.bad_share) <= may_fail:
        outcome = "fail"
    batch = measurement.benchmark.batch
    invariance = slo.metric in INVARIANCES
    needed = probes_for(slo, spent, rows=batch) if invariance else needed_for(slo, spent, rows=batch)
    assert needed is not None
    evidence = Evidence(
        requests,
        needed,
        _interval(slo, measurement, math.ceil(count / effect), effective),
        violations=count if slo.metric != "itl" else math.ceil(count / effect),
        effective=effective,
        allowed=most_misses(effective, slo.bad_share, may_pass) if not slo.strict else 0,
    )
    return Judgement(slo, value, outcome, outcome == "fail", evidence)


def _rate(slo: Slo, value: float, measurement: Measurement, risks: tuple[float, float]) -> Judgement:
    """A rate against the least that the target allows."""
    needed = needed_for(slo, together=measurement.benchmark.together)
    assert needed is not None
    requests, found = len(measurement.samples), measurement.batches(slo)
    if found is None:
        return Judgement(slo, value, "inconclusive", evidence=Evidence(requests, needed, None, batches=0))
    batches, limit = found
    outcome = "inconclusive"
    if batches.reaches(limit) <= risks[0]:
        outcome = "pass"
    elif batches.falls_short(limit) <= risks[1]:
        outcome = "fail"
    low, high = batches.interval(slo.risk)
    ends: tuple[float | None, float | None] = (low, high)
    if slo.metric in PER:  # the cost of the highest rate is the least
        price = limit * slo.limit
        ends = (price / high if high else None, price / low if low else None)
    return Judgement(
        slo, value, outcome, outcome == "fail", Evidence(requests, needed, ends, batches=len(batches.amounts))
    )


def _bad(slo: Slo, measurement: Measurement) -> list[bool]:
    """For each measured request, in order of sending (for `itl`: each gap; for `quality`: each row that has a right
    answer; for an invariance: each prompt that was compared), whether it violates the target."""
    if slo.metric == "quality":
        return [not row.correct for row in measurement.rows if row.correct is not None]
    if slo.metric in INVARIANCES:
        pairs = measurement.batch_pairs if slo.metric == "batch_invariance" else measurement.load_pairs
        return [not same for same in pairs]
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


def _interval(
    slo: Slo, measurement: Measurement, violations: int, effective: int
) -> tuple[float | None, float | None] | None:
    """Of a percentile: between two of the values, no distribution assumed. Of a share: of so many independent ones."""
    if slo.percentile is None:
        low_share, high_share = share_interval(violations, effective, slo.risk)
        bounded = (low_share, high_share) if slo.definition.bound == "max" else (1 - high_share, 1 - low_share)
        return bounded
    if slo.metric == "itl":
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
    for digits in (4, 6) if unit == "USD" else (1, 2, 3, 6):  # a request costs less than a cent
        if unit == "share":
            texts = percent(shown, digits + 1), percent(limit, digits + 1)
        else:
            texts = f"{shown:.{digits}f} {unit}", f"{limit:.{digits}f} {unit}"
        exact = math.isclose(round(limit, digits), limit) or unit == "share"
        if exact and (texts[0] != texts[1] or shown == limit):
            break
    return texts
