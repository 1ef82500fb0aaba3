"""The geometry of a plan's pictures: bars of memory against what there is, and the front of alternatives.

Not their drawing (templates/plan.html.j2, plan_picture.py). Places are in SVG user units, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.plan.memory import GIB
from heavylift.plan.parts import Alternative, Where
from heavylift.plan.plan import Plan
from heavylift.plan.show import ON, sized, way
from heavylift.report.axis import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, LogAxis, fitting

BAR_TOP, BAR_HEIGHT, BAR_AREA = 26, 34, 108  # of one bar: its place, and all that it takes with axis and names
KINDS = 8  # colours of parts; more parts begin again
DRAWN: tuple[Where, ...] = ("accelerator", "host")  # disk and shared memory are in tables


@dataclass(frozen=True)
class Piece:
    """A part of a bar. `kind` is its colour's number."""

    x: float
    width: float
    kind: int
    name: str
    size: str


@dataclass(frozen=True)
class Bar:
    """The memory of one place: its parts, and the line of what can be used."""

    where: Where
    title: str
    axis: Axis
    pieces: tuple[Piece, ...]
    limit: float
    fits: bool
    unit: str


@dataclass(frozen=True)
class Dot:
    """An alternative; `chosen` is the plan's own, `ready` needs nothing in the model file."""

    x: float
    y: float
    chosen: bool
    ready: bool
    title: str


@dataclass(frozen=True)
class Front:
    """Alternatives by dollars an hour and the P90 of a time in milliseconds."""

    what: str
    x: Axis | LogAxis
    y: Axis | LogAxis
    dots: tuple[Dot, ...]


def bars(plan: Plan) -> list[Bar]:
    """An accelerator's memory first, where there is one: it is the scarce one."""
    return [_bar(plan, where) for where in DRAWN if plan.memory.needed(where) > 0]


def fronts(plan: Plan) -> list[Front]:
    """Of the time to the first token, and of a token; none without alternatives."""
    if not plan.alternatives:
        return []
    found = plan.performance
    first, token = (None, None) if found is None else (found.first_token_ms.p90, found.per_token_ms.p90)
    return [
        _front(plan, "time to the first token", [each.first_token_ms_p90 for each in plan.alternatives], first),
        _front(plan, "time per token", [each.per_token_ms_p90 for each in plan.alternatives], token),
    ]


def _bar(plan: Plan, where: Where) -> Bar:
    needed, available = plan.memory.needed(where), plan.memory.available(where)
    large = max(needed, available)
    scale, unit = (GIB, "GiB") if large >= GIB else (2**20, "MiB")
    axis = Axis(0, 1.04 * large / scale, LEFT, WIDTH - RIGHT)
    pieces, begin = [], 0.0
    for kind, row in enumerate(row for row in plan.memory.rows if row.where == where):
        end = begin + row.bytes / scale
        pieces.append(
            Piece(axis.at(begin), round(axis.at(end) - axis.at(begin), 2), kind % KINDS, row.what, sized(row.bytes))
        )
        begin = end
    device = f" ({plan.instance.accelerators} · {plan.instance.accelerator})" if where == "accelerator" else ""
    title = f"{ON[where]}{device}: {sized(needed)} of {sized(available)}"
    return Bar(where, title, axis, tuple(pieces), axis.at(available / scale), needed <= available, unit)


def _front(plan: Plan, what: str, times: list[float], own: float | None) -> Front:
    """`own`: the plan's own time, which has a dot of its own where an alternative beats it in everything."""
    usd = [each.usd_per_hour for each in plan.alternatives]
    price = plan.instance.price
    beaten = not any(_chosen(plan, each) for each in plan.alternatives)
    also = [] if own is None or price is None or not beaten else [(price.usd_per_hour * plan.instance.count, own)]
    x = _wide(fitting([*usd, *(dollars for dollars, _ in also)], LEFT, WIDTH - RIGHT))
    y = _wide(fitting([*times, *(time for _, time in also)], HEIGHT - BOTTOM, TOP))
    dots = [
        Dot(x.at(each.usd_per_hour), y.at(time), _chosen(plan, each), not each.asks, _title(each, what, time))
        for each, time in zip(plan.alternatives, times, strict=True)
    ]
    for dollars, time in also:
        dots.append(
            Dot(x.at(dollars), y.at(time), True, True, f"this plan: ${dollars:.4g} an hour, {_p90(what, time)}")
        )
    return Front(what, x, y, tuple(sorted(dots, key=lambda dot: (dot.chosen, dot.ready))))


def _p90(what: str, time: float) -> str:
    return f"P90 {what} {time:.4g} ms"


def _wide(axis: Axis | LogAxis) -> Axis | LogAxis:
    """A logarithmic axis with room on both sides."""
    return axis if isinstance(axis, Axis) else LogAxis(axis.low / 1.2, axis.high * 1.2, axis.start, axis.end)


def _chosen(plan: Plan, each: Alternative) -> bool:
    own = (plan.instance.type, plan.engine, plan.dtype, plan.tensor_parallel_degree, plan.pipeline_parallel_degree)
    its = (each.instance_type, each.engine, each.dtype, each.tensor_parallel_degree, each.pipeline_parallel_degree)
    return own == its and each.copies == plan.serving.workers


def _title(each: Alternative, what: str, time: float) -> str:
    asks = f"; needs {'; '.join(each.asks)}" if each.asks else ""
    said = f"${each.usd_per_hour:.4g} an hour, {_p90(what, time)}, loads in {each.load_seconds:.4g} s"
    return f"{way(each)}: {said}{asks}"
