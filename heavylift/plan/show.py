"""A plan as text for people: what was decided, how, and the arithmetic. Not its JSON form: that is Plan.to_json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heavylift.plan.memory import GIB
from heavylift.plan.plan import WHERES, Plan


def show(plan: Plan) -> str:
    """Aligned plain text; every number has its unit, and how it was obtained."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    model, instance = plan.model, plan.instance
    size = f"{model.parameters:,} parameters, " if model.parameters is not None else ""
    yield f"{plan.name}: {model.source}, {size}{sized(model.bytes)}"
    accelerators = f", {instance.accelerators} · {instance.accelerator}" if instance.accelerator is not None else ""
    facts = f"{instance.vcpus} vCPUs, {instance.memory_gib:g} GiB{accelerators}, {_price(plan)}"
    yield f"{instance.count} · {instance.type}: {facts}"
    yield ""
    yield from _table(
        ("decision", "value", "how", "why"),
        [(row.field, row.value, row.how, row.why) for row in plan.decisions],
    )
    for where in WHERES:
        rows = [row for row in plan.memory.rows if row.where == where]
        if rows:
            yield ""
            total, available = plan.memory.needed(where), plan.memory.available(where)
            on_what = "the host" if where == "host" else "each accelerator"
            cells = [(row.what, sized(row.bytes), row.formula) for row in rows]
            yield from _table(
                (f"memory of {on_what}", "size", "formula, bytes"),
                [*cells, ("needed", sized(total), f"of {sized(available)} that can be used")],
            )
    yield ""
    yield from _table(("serving.properties", "value"), plan.properties)
    yield ""
    yield f"weights {plan.weights_digest}"
    yield f"config  {plan.config_digest}"
    yield f"gate    {plan.gate_digest if plan.gate_digest is not None else 'none: the file has no benchmark'}"


def sized(count: int) -> str:
    """Bytes for people: MiB below one GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _price(plan: Plan) -> str:
    price = plan.instance.price
    if price is None:
        return "price unknown"
    total = price.usd_per_hour * plan.instance.count
    return f"${total:.4g} per hour in {price.region} ({price.how}, {price.date})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, [("-" * width) for width in (*widths[:-1], len(head[-1]))], *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
