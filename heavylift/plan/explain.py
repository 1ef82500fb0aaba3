"""One field of a plan with its whole arithmetic. Not the overview (show.py)."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from heavylift.errors import InputError
from heavylift.plan import show
from heavylift.plan.parts import WHERES, Decision
from heavylift.plan.plan import Plan
from heavylift.plan.section import Section

PARTS: dict[str, Callable[[Plan], list[Section]]] = {
    "memory": lambda plan: [show.memory(plan, where) for where in WHERES if _has(plan, where)],
    "performance": lambda plan: [] if plan.performance is None else [show.performance(plan.performance)],
    "cost": lambda plan: [show.cost(plan)],
    "alternatives": lambda plan: [show.alternatives(plan, len(plan.alternatives))] if plan.alternatives else [],
    "settings": lambda plan: [show.settings(plan)],
}
BEHIND = {
    "instance_type": ("memory", "performance", "alternatives"),
    "tensor_parallel_degree": ("memory", "performance"),
    "engine": ("alternatives",),
    "speed": ("performance",),
    "traffic": ("performance",),
    "initial_instance_count": ("performance", "cost"),
}
"""Decision → the parts that its arithmetic rests on."""


def explain(plan: Plan, field: str) -> list[Section]:
    """Raises InputError, with the nearest names, for a field that the plan has not."""
    decisions = [row for row in plan.decisions if row.field == field]
    rows = [row for row in plan.memory.rows if row.what == field]
    if not (decisions or rows or field in PARTS or field in dict(plan.properties)):
        raise InputError(_unknown(plan, field))
    found = [_decision(row) for row in decisions]
    for row in rows:
        lines = (("bytes", f"{row.bytes:,}"), ("size", show.sized(row.bytes)), ("formula", row.formula))
        found.append(Section(f"{row.what}, memory of {show.ON[row.where]}", ("what", "value"), lines))
    if not (decisions or rows) and field in dict(plan.properties):
        found.append(Section(field, ("what", "value"), (("serving.properties", dict(plan.properties)[field]),)))
    parts = [field] if field in PARTS else BEHIND.get(field, ())
    for part in parts:
        found += PARTS[part](plan)
    if not found:
        raise InputError(f"the plan of {plan.name} has nothing under '{field}'")
    return found


def fields(plan: Plan) -> list[str]:
    """All that can be explained."""
    names = [*(row.field for row in plan.decisions), *(row.what for row in plan.memory.rows), *PARTS]
    return list(dict.fromkeys((*names, *(key for key, _ in plan.properties))))


def _decision(row: Decision) -> Section:
    """The arithmetic, a step in each line."""
    steps = tuple((f"{number}", step) for number, step in enumerate(_steps(row.why), 1))
    return Section(f"{row.field} = {row.value} ({row.how})", ("step", "why"), steps, right=("step",))


def _steps(why: str) -> list[str]:
    """Its clauses; those in brackets stay together."""
    steps, begin, depth = [], 0, 0
    for place, sign in enumerate(why):
        depth += (sign == "(") - (sign == ")")
        if sign == ";" and depth == 0:
            steps.append(why[begin:place].strip())
            begin = place + 1
    return [*steps, why[begin:].strip()]


def _unknown(plan: Plan, field: str) -> str:
    known = fields(plan)
    near = difflib.get_close_matches(field, known, n=3, cutoff=0.4)
    nearest = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
    return f"the plan of {plan.name} has no field '{field}'; {nearest}"


def _has(plan: Plan, where: str) -> bool:
    return any(row.where == where for row in plan.memory.rows)
