"""Accelerators: memory, bandwidth, operations, and how fast several of them add up a tensor. Not the instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from heavylift.plan.facts.table import Origin, number, origins, rows

Hardware = Literal["cpu", "gpu", "neuron", "gaudi"]
Found = Literal["measured", "estimated"]

_HARDWARE: dict[str, Hardware] = {"gpu": "gpu", "neuron": "neuron", "gaudi": "gaudi"}
_FOUND: dict[str, Found] = {"measured": "measured", "estimated": "estimated"}
DTYPES = ("fp32", "fp16", "bf16", "int8", "fp8", "fp4")


@dataclass(frozen=True)
class Collective:
    """An all-reduce of S bytes over so many ranks takes alpha + 2·(n-1)/n · S / bus."""

    alpha_us: float
    bus_gbps: float
    how: Found
    origin: Origin

    def seconds(self, bytes_: float, degree: int) -> float:
        """Of one all-reduce."""
        return self.alpha_us * 1e-6 + 2 * (degree - 1) / degree * bytes_ / (self.bus_gbps * 1e9)


@dataclass(frozen=True)
class Accelerator:
    """One device. `memory_gib` (2**30 bytes) is what a program sees; `cores` those that a rank can own (GPU: 1).

    `operations` are dense, in FLOP/s by number format; a format that the device lacks, or of which nothing is
    published, is left out: `computes` tells the two apart. `link` is the interconnect's class, None where unknown.
    """

    name: str
    hardware: Hardware
    generation: str
    capability: float | None
    memory_gib: float
    cores: int
    bandwidth: float | None
    operations: Mapping[str, float]
    lacks: tuple[str, ...]
    link: str | None
    collectives: Mapping[int, Collective]
    memory_origin: Origin
    speed_origin: Origin

    @property
    def bf16(self) -> bool:
        """It computes in bfloat16."""
        return self.computes("bf16")

    def computes(self, dtype: str) -> bool:
        """It has units for the format."""
        return dtype not in self.lacks

    @property
    def core_memory_gib(self) -> float:
        """What one rank owns: a GPU's memory, or a NeuronCore's share of its chip's."""
        return self.memory_gib / self.cores


@cache
def accelerators() -> dict[str, Accelerator]:
    """Every accelerator by name."""
    return {row["name"]: _accelerator(row) for row in rows("accelerators.csv")}


def _accelerator(row: dict[str, str]) -> Accelerator:
    bandwidth = number(row["bandwidth_tbs"])
    operations = {dtype: 1e12 * found for dtype in DTYPES if (found := number(row[dtype])) is not None}
    return Accelerator(
        name=row["name"],
        hardware=_HARDWARE[row["hardware"]],
        generation=row["generation"],
        capability=number(row["capability"]),
        memory_gib=float(row["memory_gib"]),
        cores=int(row["cores"]),
        bandwidth=None if bandwidth is None else 1e12 * bandwidth,
        operations=MappingProxyType(operations),
        lacks=tuple(dtype for dtype in DTYPES if row[dtype] == "no"),
        link=None if row["link"] == "unknown" else row["link"],
        collectives=MappingProxyType(
            {
                int(each["degree"]): Collective(
                    float(each["alpha_us"]), float(each["bus_gbps"]), _FOUND[each["how"]], origins()[each["source"]]
                )
                for each in rows("collectives.csv")
                if each["accelerator"] == row["name"]
            }
        ),
        memory_origin=origins()[row["memory_source"]],
        speed_origin=origins()[row["speed_source"]],
    )
