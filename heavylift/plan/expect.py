"""The plan's form of what a search found: milliseconds, dollars, decisions as sentences. Not the search."""

from __future__ import annotations

from heavylift.plan.parts import Alternative, Decision, Performance, Range
from heavylift.plan.performance.interval import Interval
from heavylift.plan.search import Candidate, Found
from heavylift.plan.traffic import describe

DIGITS = 4


def performance_of(found: Found, candidate: Candidate) -> Performance | None:
    """Of the candidate that was chosen."""
    estimate = candidate.estimate
    if estimate is None:
        return None
    return Performance(
        load=describe(found.traffic.load),
        load_how=found.traffic.how,
        first_token_ms=_range(estimate.first_token, 1e3),
        per_token_ms=_range(estimate.per_token, 1e3),
        request_ms=_range(estimate.request, 1e3),
        tokens_per_second=_range(estimate.tokens_per_second),
        most_tokens_per_second=_range(estimate.most_tokens),
        batch=_rounded(estimate.rows),
        probability=round(estimate.probability, 3),
        usd_per_million_tokens=_money(candidate.usd_per_million),
        usd_per_million_tokens_most=_money(candidate.usd_per_million_most),
        calibration=estimate.calibration,
        calibrated=estimate.calibrated,
    )


def alternatives_of(found: Found) -> tuple[Alternative, ...]:
    """The front of those that nothing beats, the cheapest first."""
    return tuple(_alternative(each) for each in found.front)


def decisions_of(found: Found, candidate: Candidate, given_instances: int) -> tuple[Decision, ...]:
    """What was counted with, and what came out; nothing where no speed is known."""
    traffic, performance = found.traffic, performance_of(found, candidate)
    if performance is None:
        return ()
    rows = [Decision("traffic", performance.load, traffic.how, traffic.why)]
    kept = f", all targets kept with probability {performance.probability:.0%}" if traffic.targets.any else ""
    rows.append(Decision("speed", _spread(performance), "computed", f"P10 to P90 of {performance.calibration}{kept}"))
    if performance.usd_per_million_tokens is not None:
        most = performance.usd_per_million_tokens_most
        value = f"${performance.usd_per_million_tokens:.4g} for a million generated tokens, ${most:.4g} at full load"
        rows.append(Decision("cost", value, "computed", "10^6 · $/h / (3600 · tokens/s), at P50"))
    if candidate.instances != given_instances:
        why = f"the load takes {candidate.instances} at 80 % of their capacity at P10; set initial_instance_count"
        rows.append(Decision("initial_instance_count", str(given_instances), "given", why))
    return tuple(rows)


def _spread(performance: Performance) -> str:
    request, token = performance.request_ms, performance.per_token_ms
    return (
        f"{token.p10:.3g} to {token.p90:.3g} ms a token, {request.p10:.3g} to {request.p90:.3g} ms a request, "
        f"{_whole(performance.tokens_per_second.p50)} tokens/s"
    )


def _whole(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _alternative(candidate: Candidate) -> Alternative:
    option, estimate = candidate.option, candidate.estimate
    assert estimate is not None and candidate.usd_per_hour is not None, "the front has only such"
    return Alternative(
        instance_type=option.fact.type,
        instances=candidate.instances,
        engine=option.engine,
        dtype=option.dtype,
        quantization=option.quantization,
        tensor_parallel_degree=option.split.tp,
        pipeline_parallel_degree=option.split.pp,
        copies=option.copies,
        usd_per_hour=round(candidate.usd_per_hour, DIGITS),
        usd_per_million_tokens=_money(candidate.usd_per_million),
        first_token_ms_p90=_rounded(1e3 * estimate.first_token.p90),
        per_token_ms_p90=_rounded(1e3 * estimate.per_token.p90),
        load_seconds=_rounded(candidate.load_seconds),
        probability=round(estimate.probability, 3),
        asks=candidate.asks,
    )


def _range(interval: Interval, scale: float = 1.0) -> Range:
    return Range(*(_rounded(scale * value) for value in (interval.p10, interval.p50, interval.p90)))


def _money(usd: float | None) -> float | None:
    return None if usd is None else _rounded(usd)


def _rounded(value: float) -> float:
    """To four significant digits: more are not known."""
    return float(f"{value:.{DIGITS}g}")
