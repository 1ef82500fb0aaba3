"""Instances and network. Not how many: scaling.py."""

from __future__ import annotations

from collections.abc import Iterator

from heavylift.plan import facts
from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule


def instance(data: Data) -> Iterator[Fault]:
    """The type is one we have facts for; NVMe types take no volume."""
    name, volume = data.get("instance_type", "auto"), data.get("volume_size_in_gb", "auto")
    if not isinstance(name, str) or not name.startswith("ml."):
        return
    fact = facts.instances().get(name)
    if fact is None:
        yield Fault(("instance_type",), facts.unknown_type(name))
    elif fact.nvme and volume != "auto":
        sentence = (
            f"'volume_size_in_gb' must be left out: {name} has NVMe storage, and SageMaker refuses a volume on it"
        )
        yield Fault(("volume_size_in_gb",), f"{sentence}; got {shown(volume)}", at_key=True)


def isolation(data: Data) -> Iterator[Fault]:
    """With network isolation SageMaker copies one prefix, the weights: there is no second one for the code."""
    if data.get("enable_network_isolation") is True and data.get("code") is not None:
        yield Fault(
            ("enable_network_isolation",), "'enable_network_isolation' cannot be combined with 'code'", at_key=True
        )


RULES: tuple[Rule, ...] = (instance, isolation)
