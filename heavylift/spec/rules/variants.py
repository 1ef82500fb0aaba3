"""Variants, shadow, components, adapters, many models: which go together, and names that are used once.

Limits: API_CreateEndpointConfig (one production and one shadow variant), API_InferenceComponentSpecification, and the
guide's "Host multiple models in one container" (https://docs.aws.amazon.com/sagemaker/latest/dg/). Not plans of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heavylift.plan import facts
from heavylift.plan.facts import InstanceFact
from heavylift.spec.fault import Fault, Path, dotted, shown
from heavylift.spec.rules.read import Data, Rule, part, rows, whole

APART = (
    ("inference_components", "variants"),
    ("inference_components", "shadow"),
    ("inference_components", "multi_model"),
    ("inference_components", "async_inference"),
    ("multi_model", "variants"),
    ("multi_model", "shadow"),
    ("variants", "instance_pools"),
)


def apart(data: Data) -> Iterator[Fault]:
    """Ways to share an endpoint that exclude each other."""
    for first, second in APART:
        if data.get(first) is not None and data.get(second) is not None:
            yield Fault((second,), f"'{second}' cannot be combined with '{first}'; keep one of them", at_key=True)
    variants = rows(data, "variants")
    if data.get("shadow") is not None and len(variants) > 1:
        sentence = f"'shadow' needs exactly one production variant; got {len(variants)} in 'variants'"
        yield Fault(("shadow",), sentence, at_key=True)
    if data.get("async_inference") is not None and part(data, "benchmark").get("stream") is True:
        yield Fault(("benchmark", "stream"), "'benchmark.stream' cannot be: 'async_inference' replies through S3")
    strategy = part(data, "gate").get("strategy")
    if strategy == "dark_variant":
        for key in ("shadow", "variants", "inference_components", "multi_model", "async_inference"):
            if data.get(key) is not None:
                sentence = f"'gate.strategy' dark_variant cannot be combined with '{key}': it needs one plain variant"
                yield Fault(("gate", "strategy"), sentence)
    if strategy == "staging" and data.get("inference_components") is not None:
        sentence = "'gate.strategy' staging cannot be combined with 'inference_components': it has an endpoint without"
        yield Fault(("gate", "strategy"), f"{sentence} them")
    if strategy in ("staging", "dark_variant") and data.get("benchmark") is None:
        yield Fault(("gate", "strategy"), f"'gate.strategy' {strategy} needs a 'benchmark' to run there")


def names(data: Data) -> Iterator[Fault]:
    """Each name once, adapters among the components'."""
    seen: set[str] = set()
    shadow = data.get("shadow")
    entries: list[tuple[Path, Any]] = [(("variants", place), row) for place, row in enumerate(rows(data, "variants"))]
    entries += [] if shadow is None else [(("shadow",), shadow)]
    for place, row in enumerate(rows(data, "inference_components")):
        entries.append((("inference_components", place), row))
        adapters = rows(row, "adapters") if isinstance(row, dict) else []
        entries += [(("inference_components", place, "adapters", number), each) for number, each in enumerate(adapters)]
    for path, row in entries:
        name = row.get("name") if isinstance(row, dict) else None
        if isinstance(name, str) and name.lower() in seen:
            yield Fault((*path, "name"), f"a second {shown(name)}; give each a name of its own")
        seen.add(str(name).lower())


def weights(data: Data) -> Iterator[Fault]:
    """Somebody must get the traffic."""
    variants = [row for row in rows(data, "variants") if isinstance(row, dict)]
    if variants and all(row.get("weight", 1.0) == 0 for row in variants):
        yield Fault(("variants",), "every weight in 'variants' is 0: no variant would get a request")


def types(data: Data) -> Iterator[Fault]:
    """The instance types of variants are ones that we have facts for; those with NVMe disks take no volume."""
    shadow = data.get("shadow")
    entries: list[tuple[Path, Any]] = [(("variants", place), row) for place, row in enumerate(rows(data, "variants"))]
    for path, row in [*entries, *([] if shadow is None else [(("shadow",), shadow)])]:
        name = row.get("instance_type") if isinstance(row, dict) else None
        if isinstance(name, str) and name.startswith("ml.") and name not in facts.instances():
            yield Fault((*path, "instance_type"), facts.unknown_type(name))
        fact = facts.instances().get(str(name))
        if fact is not None and fact.nvme and whole(row.get("volume_size_in_gb")) is not None:
            here = (*path, "volume_size_in_gb")
            yield Fault(here, f"'{dotted(here)}' must be left out: {name} has NVMe storage", at_key=True)


def components(data: Data) -> Iterator[Fault]:
    """What the copies need is there, on every type that they may come to: devices, cores, memory."""
    pools = [row.get("instance_type") for row in rows(data, "instance_pools") if isinstance(row, dict)]
    known = [facts.instances().get(str(name)) for name in (data.get("instance_type"), *pools)]
    types = [fact for fact in known if fact is not None]
    needed, every = 0, True
    for place, row in enumerate(rows(data, "inference_components")):
        if not isinstance(row, dict):
            continue
        path = ("inference_components", place)
        least, most = whole(row.get("min_memory_in_mb")), whole(row.get("max_memory_in_mb"))
        if least is not None and most is not None and least > most:
            here = (*path, "min_memory_in_mb")
            yield Fault(here, f"'{dotted(here)}' must be at most 'max_memory_in_mb' ({most}); got {least}")
        for fact in types:
            yield from _held(row, path, fact)
        devices, copies = whole(row.get("accelerators")), whole(row.get("copies", 1))
        every = every and devices is not None and copies is not None
        needed += (devices or 0) * (copies or 0)
    most_instances = _most_instances(data)
    if not types or types[0].accelerator is None or not every or most_instances is None:
        return
    has = max(fact.accelerators for fact in types)
    if needed > has * most_instances:
        there = f"{most_instances} · {has} of {' or '.join(fact.type for fact in types)}"
        yield Fault(("inference_components",), f"the copies need {needed} accelerators; there are {there}", at_key=True)


def _held(row: Data, path: Path, fact: InstanceFact) -> Iterator[Fault]:
    """One copy on one instance."""
    devices, cores, least = whole(row.get("accelerators")), row.get("cpus"), whole(row.get("min_memory_in_mb"))
    if fact.accelerator is not None and devices is None:
        here = (*path, "accelerators")
        yield Fault(path, f"'{dotted(here)}' is missing: {fact.type} has {fact.accelerators} to give")
    if fact.accelerator is None and devices is not None:
        yield Fault((*path, "accelerators"), f"{fact.type} has no accelerators; leave them out", at_key=True)
    limits = (
        ("accelerators", devices, fact.accelerators if fact.accelerator is not None else None),
        ("cpus", cores if isinstance(cores, int | float) else None, fact.vcpus),
    )
    for key, value, limit in limits:
        if value is not None and limit is not None and value > limit:
            here = (*path, key)
            yield Fault(here, f"'{dotted(here)}' must be at most {fact.type}'s {limit}; got {value}")
    if least is not None and least >= fact.memory_gib * 1024:
        here = (*path, "min_memory_in_mb")
        yield Fault(here, f"'{dotted(here)}' must be below {fact.type}'s {fact.memory_gib * 1024:g}; got {least}")


def _most_instances(data: Data) -> int | None:
    most = whole(part(data, "managed_instances").get("max"))
    return whole(data.get("initial_instance_count", 1)) if most is None else most


RULES: tuple[Rule, ...] = (apart, names, weights, types, components)
