"""Instance types: accelerators, processors, memory, disk, network. Not which one a model gets."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache

from heavylift.plan.facts.accelerator import Accelerator, Hardware, accelerators
from heavylift.plan.facts.price import PriceFact, PriceHow, price
from heavylift.plan.facts.table import Origin, number, origins, rows


@dataclass(frozen=True)
class InstanceFact:
    """One instance type. Memory in GiB (2**30), disk in GB (10**9), network in Gbit/s; None where unknown.

    `network_gbps` is what the type has always, `network_burst_gbps` AWS's 'up to'. `price_fact` is of price.REGION.
    """

    type: str
    accelerator: Accelerator | None
    accelerators: int
    vcpus: int
    memory_gib: float
    nvme_gb: float | None
    network_gbps: float | None
    network_burst_gbps: float | None
    origin: Origin
    price_fact: PriceFact

    @property
    def hardware(self) -> Hardware:
        """What an engine must run on here."""
        return "cpu" if self.accelerator is None else self.accelerator.hardware

    @property
    def devices(self) -> int:
        """Ranks that can own a device each: GPUs, or NeuronCores; 0 without accelerators."""
        return 0 if self.accelerator is None else self.accelerators * self.accelerator.cores

    @property
    def nvme(self) -> bool | None:
        """It has a local disk, and SageMaker refuses a volume on it."""
        return None if self.nvme_gb is None else self.nvme_gb > 0

    @property
    def usd_per_hour(self) -> float | None:
        """None where no price is known."""
        return self.price_fact.usd_per_hour

    @property
    def price_how(self) -> PriceHow:
        """How the price was obtained."""
        return self.price_fact.how

    @property
    def price_origin(self) -> Origin:
        """Where and when it was read."""
        return self.price_fact.origin


@cache
def instances() -> dict[str, InstanceFact]:
    """Every type, in the table's order: among equal prices the earlier is preferred."""
    return {
        row["type"]: InstanceFact(
            type=row["type"],
            accelerator=accelerators()[row["accelerator"]] if row["accelerator"] else None,
            accelerators=int(row["accelerators"]),
            vcpus=int(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            nvme_gb=number(row["nvme_gb"]),
            network_gbps=number(row["network_gbps"]),
            network_burst_gbps=number(row["network_burst_gbps"]),
            origin=origins()[row["source"]],
            price_fact=price(row["type"]),
        )
        for row in rows("instances.csv")
    }


def unknown_type(name: str) -> str:
    """The sentence for an instance type that is not in the table."""
    near = difflib.get_close_matches(name, instances(), n=3)
    nearest = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no facts about instance type '{name}'{nearest}"
