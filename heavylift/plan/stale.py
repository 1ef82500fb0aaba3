"""What in a plan rests on old prices, on a day that is given: the plan itself looks at no clock. Not a fault."""

from __future__ import annotations

import datetime

from heavylift.plan import facts
from heavylift.plan.plan import Plan


def stale_prices(plan: Plan, on: datetime.date) -> list[str]:
    """A sentence for the chosen type, and one for all alternatives whose prices are older than facts.STALE_AFTER."""
    sentences = []
    if (said := facts.price(plan.instance.type).stale(on)) is not None:
        sentences.append(f"{plan.instance.type}: {said}")
    others = {each.instance_type for each in plan.alternatives} - {plan.instance.type}
    old = sorted(type_ for type_ in others if facts.price(type_).stale(on) is not None)
    if old:
        which = "the price of 1 alternative is" if len(old) == 1 else f"prices of {len(old)} alternatives are"
        sentences.append(f"{which} older than {facts.STALE_AFTER} days: {', '.join(old)}")
    return sentences
