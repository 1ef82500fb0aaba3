"""A fleet for people and as JSON. Not the solving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heavylift.plan.fleet.answer import Fleet
from heavylift.plan.fleet.ask import Asked
from heavylift.plan.fleet.document import document_json
from heavylift.plan.fleet.pools import hosted, pools
from heavylift.plan.section import Section

FORMAT = "heavylift.fleet-answer/1"
SHOWN = 10  # types alone, the cheapest first
WHOLE = 1 - 5e-4  # shares from here are shown as "all"


def sections(name: str, asked: Asked, fleet: Fleet) -> Iterator[Section]:
    """Counts, who serves what, what one type alone would cost, and how to deploy it."""
    problem = asked.problem
    head = f"{len(problem.buckets)} sizes, {problem.requests_per_second:g} requests per second, "
    head += f"{len(problem.offers)} types offered, head room {problem.head_room:.0%}"
    yield Section(f"{name}: the cheapest fleet, ${fleet.usd_per_hour:.4f} an hour", note=f"{head}; {_proof(fleet)}")
    behind = hosted(fleet)
    names = ("type", "instances", "$/h", "full", "requests/s", "then")
    rows = tuple(
        (
            served.name,
            str(served.count),
            f"{served.usd_per_hour:.4f}",
            f"{served.utilisation:.1%}",
            f"{served.requests_per_second:.4g}",
            ", ".join(pools(problem, fleet, served)[1:]) if behind else "",
        )
        for served in fleet.types
    )
    note = "then: the instance pools behind each type, of the same count; CreateEndpointConfig's request is in --json"
    yield Section("fleet", names, rows, note if behind else None, names[1:5])
    shares = tuple(
        (str(share.bucket), f"{share.bucket.requests_per_second:.4g}", served.name, _share(share.share))
        for served in fleet.types
        for share in served.shares
    )
    yield Section("who serves what", ("size", "requests/s", "type", "share"), shares, _routing(fleet), ("requests/s",))
    cheapest = sorted(fleet.alone, key=lambda each: (each.usd_per_hour is None, each.usd_per_hour or 0.0))
    alone = tuple(
        (
            each.name,
            "-" if each.count is None else str(each.count),
            "-" if each.usd_per_hour is None else f"{each.usd_per_hour:.4f}",
            "-" if each.saving is None else f"{100 * each.saving:.2f} %",
            each.why or "",
        )
        for each in cheapest[:SHOWN]
    )
    more = f"{len(fleet.alone) - SHOWN} more are in --json" if len(fleet.alone) > SHOWN else None
    yield Section(
        "one type alone", ("type", "instances", "$/h", "saved", "why not"), alone, more, ("instances", "$/h", "saved")
    )
    if asked.computed:
        used = tuple(
            (served.name, str(asked.computed[served.name].option), asked.computed[served.name].label)
            for served in fleet.types
            if served.name in asked.computed
        )
        note = "throughputs are the P10 of the closed forms at the SLO: measure, and give them as profiles"
        yield Section("how the throughputs are known", ("type", "parallel plan", "from"), used, note)


def answer_json(name: str, asked: Asked, fleet: Fleet, config: dict[str, Any] | None) -> dict[str, Any]:
    """`heavylift.fleet-answer/1`; `config`: CreateEndpointConfig's request; None for types not of SageMaker."""
    return {
        "format": FORMAT,
        "name": name,
        "usd_per_hour": fleet.usd_per_hour,
        "bound": fleet.bound,
        "gap": fleet.gap,
        "growth": fleet.growth,
        "unrouted": fleet.unrouted,
        "types": [
            {
                "type": served.name,
                "count": served.count,
                "usd_per_hour": served.usd_per_hour,
                "utilisation": served.utilisation,
                "requests_per_second": served.requests_per_second,
                "shares": [{"size": str(share.bucket), "share": share.share} for share in served.shares],
            }
            for served in fleet.types
        ],
        "alone": [
            {
                "type": each.name,
                "count": each.count,
                "usd_per_hour": each.usd_per_hour,
                "saving": each.saving,
                "why": each.why,
            }
            for each in fleet.alone
        ],
        "problem": document_json(asked.problem),
        "computed": {
            name: {"plan": str(profile.option), "from": profile.label} for name, profile in asked.computed.items()
        },
        "endpoint_config": config,
    }


def _proof(fleet: Fleet) -> str:
    if fleet.gap <= 1e-9:
        return "proven optimal (gap 0)"
    return f"no fleet costs less than ${fleet.bound:.4f} an hour (gap {fleet.gap:.2%}: the search ran out of time)"


def _routing(fleet: Fleet) -> str | None:
    """What the split asks of whoever sends the requests."""
    if fleet.growth is None or fleet.unrouted is None:
        return None
    grow = f"every rate may grow by a factor of {fleet.growth:.3g}"
    if len(fleet.types) == 1:
        return grow
    if fleet.unrouted >= 1:
        return f"{grow}; spread without regard to size, still by {fleet.unrouted:.3g}: variant weights suffice"
    return (
        f"{grow}, if requests go by size (InvokeEndpoint's TargetVariant); spread without regard to size this fleet "
        f"serves {fleet.unrouted:.0%} of them within the SLO"
    )


def _share(share: float) -> str:
    return "all" if share >= WHOLE else f"{share:.1%}"
