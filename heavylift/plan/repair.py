"""When nothing fits: the smallest changes of a model file that would, the cheapest first. Not made, only named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.demand import Demand
from heavylift.plan.facts import InstanceFact
from heavylift.spec import ModelSpec

MOST = 3
Fitting = Callable[[Demand], InstanceFact | None]
"""The cheapest type that a demand fits, or None."""


@dataclass(frozen=True)
class Repair:
    """What to write instead, the fields' new values, and where it then runs."""

    changes: tuple[str, ...]
    update: dict[str, Any]
    fact: InstanceFact

    def __str__(self) -> str:
        usd = self.fact.usd_per_hour
        cost = "at an unknown price" if usd is None else f"${usd:.4g} per hour in {facts.REGION}"
        return f"{' and '.join(self.changes)}: {self.fact.type}, {cost}"


def repairs(demand: Demand, fitting: Fitting) -> list[Repair]:
    """Single changes where one is enough, else pairs."""
    changes = list(_changes(demand.spec))
    for count in (1, 2):
        found = [repair for chosen in combinations(changes, count) if (repair := _try(demand, chosen, fitting))]
        bf16 = {repair.fact.type for repair in found if repair.update.get("dtype") == "bf16"}
        # fp16 takes the same bytes: only where bf16 does not run
        found = [each for each in found if each.fact.type not in bf16 or each.update.get("dtype") != "fp16"]
        if found:
            return sorted(found, key=lambda repair: (repair.fact.usd_per_hour or 0, repair.changes))[:MOST]
    return []


def _try(demand: Demand, chosen: tuple[tuple[str, dict[str, Any]], ...], fitting: Fitting) -> Repair | None:
    update: dict[str, Any] = {}
    for _, fields in chosen:
        if "serving" in fields and "serving" in update:
            return None  # two changes of the same part
        update |= fields
    try:
        fact = fitting(Demand.of(demand.spec.model_copy(update=update), demand.lock))
    except InputError:
        return None
    return None if fact is None else Repair(tuple(text for text, _ in chosen), update, fact)


def _changes(spec: ModelSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a user may write instead, least surprising first."""
    if spec.instance_type != "auto":
        yield "instance_type: auto", {"instance_type": "auto"}
    if spec.tensor_parallel_degree != "auto":
        yield "tensor_parallel_degree: auto", {"tensor_parallel_degree": "auto"}
    if spec.volume_size_in_gb != "auto":
        yield "volume_size_in_gb: auto", {"volume_size_in_gb": "auto"}
    if spec.serving.workers > 1:
        yield "serving.workers: 1", {"serving": spec.serving.model_copy(update={"workers": 1})}
    if spec.serving.batch_size > 1:
        yield "serving.batch_size: 1", {"serving": spec.serving.model_copy(update={"batch_size": 1})}
    for dtype in ("bf16", "fp16"):
        if spec.dtype != dtype:
            yield f"dtype: {dtype} (quality not evaluated)", {"dtype": dtype}
