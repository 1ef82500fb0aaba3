"""A comparison of parallel plans for people and as JSON. Not the simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from heavylift.plan.section import Section
from heavylift.plan.simulate.compare import Comparison, Tried
from heavylift.plan.simulate.outcome import PERCENTS, Outcome

FORMAT = "heavylift.simulation/1"


def sections(title: str, comparison: Comparison, label: str) -> Iterator[Section]:
    """The best plan with its reason, then all of them; `label` says where the iterations' times are from."""
    yield Section(f"{title}: {comparison.best.parallel}", note=comparison.why)
    able = [each for each in comparison.tried if each.outcome is not None]
    names = ("plan", "TTFT P50/P90/P99 ms", "TPOT P50/P90/P99 ms", "latency P50/P90/P99 s", "tokens/s", "busy", "kept")
    rows = tuple(_row(each, each.outcome) for each in able if each.outcome is not None)
    yield Section("parallel plans, the best first", names, rows, label, names[1:])
    details = tuple(
        (
            str(each.parallel),
            f"{each.outcome.rows:.1f}",
            f"{each.outcome.cache:.1%}",
            str(each.outcome.preemptions),
            f"{each.outcome.requests_per_second:.4g}",
        )
        for each in able
        if each.outcome is not None
    )
    heads = ("plan", "rows at once", "fullest cache", "preemptions", "requests/s")
    yield Section("how full they were", heads, details, None, heads[1:])
    unable = tuple((str(each.parallel), each.why or "") for each in comparison.tried if each.outcome is None)
    if unable:
        yield Section("plans that cannot serve the trace", ("plan", "why"), unable)


def comparison_json(name: str, instance_type: str, comparison: Comparison, label: str) -> dict[str, Any]:
    """`heavylift.simulation/1`: seconds, tokens; percentiles by percent."""
    return {
        "format": FORMAT,
        "name": name,
        "instance_type": instance_type,
        "times_from": label,
        "why": comparison.why,
        "plans": [_plan_json(each) for each in comparison.tried],
    }


def _plan_json(each: Tried) -> dict[str, Any]:
    parallel, found = each.parallel, each.outcome
    plan = {
        "tensor_parallel_degree": parallel.tensor,
        "pipeline_parallel_degree": parallel.pipeline,
        "copies": parallel.copies,
        "why_not": each.why,
    }
    if found is None:
        return plan
    return plan | {
        "ttft_s": _named(found.ttft_s),
        "tpot_s": _named(found.tpot_s),
        "latency_s": _named(found.latency_s),
        "kept": each.kept,
        "seconds": found.seconds,
        "requests_per_second": found.requests_per_second,
        "tokens_per_second": found.tokens_per_second,
        "utilisation": found.utilisation,
        "rows": found.rows,
        "cache": found.cache,
        "preemptions": found.preemptions,
        "tokens_read_again": found.read_again,
    }


def _named(found: dict[int, float]) -> dict[str, float | None]:
    """NaN, where no request has such a time, becomes null."""
    return {f"p{percent}": None if math.isnan(found[percent]) else found[percent] for percent in PERCENTS}


def _row(each: Tried, found: Outcome) -> tuple[str, ...]:
    return (
        str(each.parallel),
        _three(found.ttft_s, 1e3),
        _three(found.tpot_s, 1e3),
        _three(found.latency_s, 1),
        _number(found.tokens_per_second),
        f"{found.utilisation:.0%}",
        f"{each.kept:.1%}",
    )


def _three(found: dict[int, float], scale: float) -> str:
    return " / ".join(_number(scale * found[percent]) for percent in PERCENTS)


def _number(value: float) -> str:
    """Three digits, and never an exponent; `-` for what no request has."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
