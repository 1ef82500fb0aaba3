"""The instance type and the tensor-parallel degree: the cheapest that fits and is quick enough, or why none fits.

Not the memory itself (memory.py), the times (search) nor the facts. Ties in price go to the earlier row of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.demand import Demand
from heavylift.plan.expect import decisions_of
from heavylift.plan.explore import best_of, explore, option_of
from heavylift.plan.facts import InstanceFact
from heavylift.plan.images import ami_for
from heavylift.plan.memory import GIB
from heavylift.plan.parts import WHERES, Decision, Memory, Where
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.repair import repairs
from heavylift.plan.search import Candidate, Found, Option, Planned
from heavylift.plan.validity import precision_faults

Decisions = tuple[Decision, ...]
PLACES: dict[Where, str] = {
    "host": "of host memory",
    "accelerator": "of accelerator memory",
    "disk": "of disk",
    "shm": "of /dev/shm",
}
VCPUS_PER_RANK = 2  # one physical core with its two hyperthreads


@dataclass(frozen=True)
class Choice:
    """One type at one degree, what it needs there, and what is wrong with it."""

    fact: InstanceFact
    degree: int
    memory: Memory
    faults: tuple[str, ...]
    option: Option

    @property
    def missing(self) -> int:
        """Bytes missing, on the host and on an accelerator together."""
        return sum(self.memory.missing(where) for where in WHERES)


def choose(
    demand: Demand, calibrations: Sequence[Calibration] = (), *, wide: bool = False
) -> tuple[Choice, Candidate, Found, Decisions]:
    """Raises InputError naming the missing GiB and the cheapest type that fits."""
    degrees, spec = demand.degrees, demand.spec
    if spec.instance_type != "auto":
        fact = facts.instances()[spec.instance_type]
        tried = [_weigh(demand, fact, degree, crowded=True) for degree in degrees]
    else:
        tried = list(_candidates(demand, degrees))
    if all(choice.faults for choice in tried):
        raise InputError(_refusal(demand, tried))
    planned = [Planned(each.option, spec.serving.batch_size, each.faults) for each in tried]
    found = explore(demand, planned, calibrations, wide=wide)
    candidate, reason = best_of(demand, found)
    place = next(place for place, each in enumerate(tried) if each.option == candidate.option)
    decisions = (
        _type_decision(demand, tried[place], tried[:place], reason),
        _degree_decision(demand, tried[place], degrees),
        *decisions_of(found, candidate, spec.initial_instance_count),
    )
    return tried[place], candidate, found, decisions


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
    ranks = degree * demand.stages * demand.spec.serving.workers
    faults = [
        f"{fact.type} needs {memory.needed(where) / GIB:.2f} GiB {PLACES[where]} at degree {degree} "
        f"and has {memory.available(where) / GIB:.2f} GiB: {missing / GIB:.2f} GiB are missing"
        for where in WHERES
        if (missing := memory.missing(where))
    ]
    if fact.accelerator is not None and ranks > fact.devices:
        faults.append(f"{fact.type} has {fact.devices} {fact.accelerator.name} devices; degree · workers is {ranks}")
    faults += demand.refusals(fact, degree)
    precision = precision_faults(demand.dtype, demand.spec.quantization, fact.accelerator)
    faults += [f"{fact.type}: {fault}" for fault in precision]
    if fact.accelerator is not None and ami_for(fact)[0] is None:
        faults.append(f"{fact.type}: {ami_for(fact)[1]}")
    if fact.accelerator is None and not crowded and ranks * VCPUS_PER_RANK > fact.vcpus:
        faults.append(f"{fact.type} has {fact.vcpus} vCPUs; {ranks} ranks want {ranks * VCPUS_PER_RANK}")
    return Choice(fact, degree, memory, tuple(faults), option_of(demand, fact, degree))


def _refusal(demand: Demand, tried: list[Choice]) -> list[str]:
    """What is missing where it misses least, the cheapest type that has it, and the cheapest repairs."""
    nearest = min(tried, key=_distance, default=None)
    if nearest is None:
        return [f"no instance type in the fact table runs engine {demand.engine.name} with the given volume_size_in_gb"]
    found = repairs(demand, _cheapest)
    mend = (
        f"; cheapest repairs: {'; '.join(map(str, found))}" if found else "; no single change or pair of changes fits"
    )
    if demand.spec.instance_type == "auto":
        return [f"no instance type fits; the nearest: {'; '.join(nearest.faults)}{mend}"]
    other = _cheapest(Demand.of(demand.spec.model_copy(update={"instance_type": "auto"}), demand.lock))
    fits = "no type in the fact table fits" if other is None else f"the cheapest type that fits is {_priced(other)}"
    return [f"{fault}; {fits}{mend}" for fault in nearest.faults]


def _distance(choice: Choice) -> tuple[int, int]:
    """How far a choice is from fitting."""
    return choice.missing, len(choice.faults)


def _cheapest(demand: Demand) -> InstanceFact | None:
    """The first type, in the order of choosing, that a demand fits."""
    if demand.spec.instance_type != "auto":
        fact = facts.instances()[demand.spec.instance_type]
        tried = iter([_weigh(demand, fact, degree, crowded=True) for degree in demand.degrees])
    else:
        tried = _candidates(demand, demand.degrees)
    return next((choice.fact for choice in tried if not choice.faults), None)


def _type_decision(demand: Demand, choice: Choice, before: list[Choice], reason: str) -> Decision:
    """`before`: what was tried before it: the cheaper ones, where the type is not given."""
    name, memory = choice.fact.type, choice.memory
    need = f"needs {memory.needed('host') / GIB:.2f} of {memory.host_available / GIB:.2f} GiB host memory"
    if choice.fact.accelerator is not None:
        device = f"{memory.needed('accelerator') / GIB:.2f} of {memory.accelerator_available / GIB:.2f} GiB"
        need += f" and {device} on each device"
    if demand.spec.instance_type != "auto":
        return Decision("instance_type", name, "given", need)
    unfit: dict[str, Choice] = {}  # of each type the nearest degree
    for each in before:
        if each.faults:
            unfit[each.fact.type] = min(each, unfit.get(each.fact.type, each), key=_distance)
    slow = list(dict.fromkeys(each.fact.type for each in before if not each.faults and each.fact.type != name))
    for type_ in (name, *slow):
        unfit.pop(type_, None)
    rejected = f"; {len(unfit)} cheaper types do not fit ({list(unfit.values())[-1].faults[0]})" if unfit else ""
    rejected += f"; {len(slow)} cheaper that fit are too slow ({slow[-1]})" if slow else ""
    return Decision("instance_type", name, "computed", f"{reason}, at {_price(choice.fact)}: {need}{rejected}")


def _degree_decision(demand: Demand, choice: Choice, degrees: tuple[int, ...]) -> Decision:
    value = str(choice.degree)
    if demand.spec.tensor_parallel_degree != "auto":
        return Decision("tensor_parallel_degree", value, "given", "the model file")
    if demand.lock.model.partition is not None:
        return Decision("tensor_parallel_degree", value, "computed", "the checkpoint was partitioned for it")
    allowed = ", ".join(map(str, degrees))
    return Decision(
        "tensor_parallel_degree", value, "computed", f"the smallest of {allowed} that fits {choice.fact.type}"
    )


def _priced(fact: InstanceFact) -> str:
    return f"{fact.type}, {_price(fact)}"


def _price(fact: InstanceFact) -> str:
    assert fact.usd_per_hour is not None
    return f"${fact.usd_per_hour:.4g} per hour in {facts.REGION} ({fact.price_how} {fact.price_origin.date})"
