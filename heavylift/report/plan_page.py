"""The page of one plan: decisions with their arithmetic, memory, times, cost, alternatives; a single HTML file.

No script, no outside resource; every value in it is escaped.
"""

from __future__ import annotations

from heavylift.plan.parts import WHERES
from heavylift.plan.plan import Plan
from heavylift.plan.show import alternatives, cost, memory, performance, settings, sized
from heavylift.report import plan_chart
from heavylift.report.page import template


def render(plan: Plan) -> str:
    """The page's HTML; the same plan gives the same page."""
    return template("plan.html.j2").render(
        plan=plan,
        size=sized(plan.model.bytes),
        figures=figures_of(plan),
        bars=plan_chart.bars(plan),
        bar={"top": plan_chart.BAR_TOP, "height": plan_chart.BAR_HEIGHT, "kinds": plan_chart.KINDS},
        fronts=plan_chart.fronts(plan),
        ledgers=[memory(plan, where) for where in WHERES if any(row.where == where for row in plan.memory.rows)],
        performance=None if plan.performance is None else performance(plan.performance),
        cost=cost(plan),
        alternatives=alternatives(plan, len(plan.alternatives)) if plan.alternatives else None,
        settings=settings(plan),
    )


def figures_of(plan: Plan) -> list[tuple[str, str]]:
    """(value, name) of what people look for first."""
    price, found = plan.instance.price, plan.performance
    figures = [(f"{plan.instance.count} · {plan.instance.type}", "instances")]
    if price is not None:
        figures.append((f"${price.usd_per_hour * plan.instance.count:.4g}", "an hour"))
    if found is not None:
        figures.append((f"{found.first_token_ms.p90:.3g} ms", "first token, P90"))
        figures.append((f"{found.per_token_ms.p90:.3g} ms", "a token, P90"))
        figures.append((_rate(found.tokens_per_second.p50), "tokens/s, P50"))
        if found.usd_per_million_tokens is not None:
            figures.append((f"${found.usd_per_million_tokens:.3g}", "10^6 tokens, P50"))
    return figures


def _rate(value: float) -> str:
    """Three digits, and never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
