"""The instance type and the tensor-parallel degree: the cheapest that fits, or the reason why none does.

Not the memory itself (memory.py) nor the facts. Ties in price go to the earlier row of the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.demand import Demand
from heavylift.plan.facts import InstanceFact
from heavylift.plan.memory import GIB
from heavylift.plan.plan import WHERES, Decision, Memory

VCPUS_PER_RANK = 2  # one physical core with its two hyperthreads


@dataclass(frozen=True)
class Choice:
    """One type at one degree, what it needs there, and what is wrong with it."""

    fact: InstanceFact
    degree: int
    memory: Memory
    faults: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Bytes missing, on the host and on an accelerator together."""
        return sum(self.memory.missing(where) for where in WHERES)


def choose(demand: Demand) -> tuple[Choice, tuple[Decision, ...]]:
    """Raises InputError naming the missing GiB and the cheapest type that fits."""
    degrees, spec = demand.degrees, demand.spec
    if spec.instance_type != "auto":
        fact = facts.instances()[spec.instance_type]
        tried = [_weigh(demand, fact, degree, crowded=True) for degree in degrees]
    else:
        tried = list(_candidates(demand, degrees))
    fitting = [choice for choice in tried if not choice.faults]
    if not fitting:
        raise InputError(_refusal(demand, tried, degrees))
    choice = fitting[0]
    return choice, (_type_decision(demand, choice, tried), _degree_decision(demand, choice, degrees))


def _candidates(demand: Demand, degrees: tuple[int, ...]) -> Iterator[Choice]:
    """Every priced type that the engine runs on: preferred hardware first, then the cheapest."""
    volume = demand.spec.volume_size_in_gb
    priced = [
        (demand.hardware.index(fact.hardware), fact.usd_per_hour, order, fact)
        for order, fact in enumerate(facts.instances().values())
        if fact.hardware in demand.hardware and fact.usd_per_hour is not None and (volume == "auto" or not fact.nvme)
    ]
    for _, _, _, fact in sorted(priced, key=lambda row: row[:3]):
        for degree in degrees:
            yield _weigh(demand, fact, degree, crowded=False)


def _weigh(demand: Demand, fact: InstanceFact, degree: int, *, crowded: bool) -> Choice:
    """`crowded`: the user named the type, so ranks may share its cores."""
    memory = demand.memory(fact, degree)
    ranks = degree * demand.spec.serving.workers
    faults = [
        f"{fact.type} needs {memory.needed(where) / GIB:.2f} GiB of {where} memory at degree {degree} "
        f"and has {memory.available(where) / GIB:.2f} GiB: {missing / GIB:.2f} GiB are missing"
        for where in WHERES
        if (missing := memory.missing(where))
    ]
    if fact.accelerator is not None and ranks > fact.devices:
        faults.append(f"{fact.type} has {fact.devices} {fact.accelerator.name} devices; degree · workers is {ranks}")
    if fact.accelerator is not None and demand.dtype == "bf16" and not fact.accelerator.bf16:
        faults.append(f"{fact.type}'s {fact.accelerator.name} cannot compute in bf16; use dtype fp16")
    if fact.accelerator is None and not crowded and ranks * VCPUS_PER_RANK > fact.vcpus:
        faults.append(f"{fact.type} has {fact.vcpus} vCPUs; {ranks} ranks want {ranks * VCPUS_PER_RANK}")
    return Choice(fact, degree, memory, tuple(faults))


def _refusal(demand: Demand, tried: list[Choice], degrees: tuple[int, ...]) -> list[str]:
    nearest = min(tried, key=lambda choice: (choice.missing, len(choice.faults)), default=None)
    if nearest is None:
        return [f"no instance type in the fact table runs engine {demand.engine.name} with the given volume_size_in_gb"]
    if demand.spec.instance_type == "auto":
        return ["no instance type fits; the nearest: " + "; ".join(nearest.faults)]
    other = demand.spec.model_copy(update={"instance_type": "auto"})
    elsewhere = Demand.of(other, demand.lock)
    fits = next((choice for choice in _candidates(elsewhere, degrees) if not choice.faults), None)
    mend = "no type in the fact table fits"
    if fits is not None:
        mend = f"the cheapest type that fits is {fits.fact.type}, {_price(fits.fact)}"
    return [f"{fault}; {mend}" for fault in nearest.faults]


def _type_decision(demand: Demand, choice: Choice, tried: list[Choice]) -> Decision:
    name, memory = choice.fact.type, choice.memory
    need = f"needs {memory.needed('host') / GIB:.2f} of {memory.host_available / GIB:.2f} GiB host memory"
    if choice.fact.accelerator is not None:
        device = f"{memory.needed('accelerator') / GIB:.2f} of {memory.accelerator_available / GIB:.2f} GiB"
        need += f" and {device} on each device"
    if demand.spec.instance_type != "auto":
        return Decision("instance_type", name, "given", need)
    cheaper = {each.fact.type: each.faults[-1] for each in tried[: tried.index(choice)]}
    cheaper.pop(name, None)
    rejected = f"; {len(cheaper)} cheaper types do not fit ({list(cheaper.values())[-1]})" if cheaper else ""
    return Decision("instance_type", name, "computed", f"cheapest that fits at {_price(choice.fact)}: {need}{rejected}")


def _degree_decision(demand: Demand, choice: Choice, degrees: tuple[int, ...]) -> Decision:
    value = str(choice.degree)
    if demand.spec.tensor_parallel_degree != "auto":
        return Decision("tensor_parallel_degree", value, "given", "the model file")
    allowed = ", ".join(map(str, degrees))
    return Decision(
        "tensor_parallel_degree", value, "computed", f"the smallest of {allowed} that fits {choice.fact.type}"
    )


def _price(fact: InstanceFact) -> str:
    assert fact.usd_per_hour is not None
    return f"${fact.usd_per_hour:.4g} per hour in {facts.REGION} ({fact.price_how} {fact.price_origin.date})"
