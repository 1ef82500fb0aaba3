"""What we know of SageMaker's instance types: dated, sourced tables. Not fetched: `instances.csv` is edited by hand.

Tables: instances.csv (one row for each type we plan for), accelerators.csv, sources.csv (where and when a row's
numbers were read). A cell `unknown` says so; nothing is filled in.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

Hardware = Literal["cpu", "gpu", "neuron"]
REGION = "us-east-1"

_HARDWARE: dict[str, Hardware] = {"gpu": "gpu", "neuron": "neuron"}
_NETWORK: dict[str, Literal["steady", "burst"]] = {"steady": "steady", "burst": "burst"}
_PRICE: dict[str, Literal["published", "estimated", "unknown"]] = {
    "published": "published",
    "estimated": "estimated",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Origin:
    """Where a number was read, and when (ISO date)."""

    name: str
    date: str
    what: str
    url: str


@dataclass(frozen=True)
class Accelerator:
    """One device: usable memory in GiB (2**30 bytes), and the cores a rank can own (1 for a GPU)."""

    name: str
    hardware: Hardware
    memory_gib: float
    cores: int
    bf16: bool


@dataclass(frozen=True)
class InstanceFact:
    """One instance type. Network in Gbit/s: `burst` is AWS's 'up to'. Price in US dollars for an hour in REGION."""

    type: str
    accelerator: Accelerator | None
    accelerators: int
    vcpus: int
    memory_gib: float
    nvme: bool | None
    network_gbps: float
    network_kind: Literal["steady", "burst"]
    usd_per_hour: float | None
    price_how: Literal["published", "estimated", "unknown"]
    price_origin: Origin
    origin: Origin

    @property
    def hardware(self) -> Hardware:
        """What an engine must run on here."""
        return "cpu" if self.accelerator is None else self.accelerator.hardware

    @property
    def devices(self) -> int:
        """Ranks that can own a device each: GPUs, or NeuronCores; 0 without accelerators."""
        return 0 if self.accelerator is None else self.accelerators * self.accelerator.cores


@cache
def instances() -> dict[str, InstanceFact]:
    """Every type, in the table's order: among equal prices the earlier is preferred."""
    return {row["type"]: _instance(row) for row in _rows("instances.csv")}


@cache
def accelerators() -> dict[str, Accelerator]:
    """Every accelerator by name."""
    return {
        row["name"]: Accelerator(
            row["name"],
            _HARDWARE[row["hardware"]],
            float(row["memory_gib"]),
            int(row["cores"]),
            {"yes": True, "no": False}[row["bf16"]],
        )
        for row in _rows("accelerators.csv")
    }


@cache
def origins() -> dict[str, Origin]:
    """Every source by its short name."""
    return {row["source"]: Origin(row["source"], row["date"], row["what"], row["url"]) for row in _rows("sources.csv")}


def unknown_type(name: str) -> str:
    """The sentence for an instance type that is not in the table."""
    near = difflib.get_close_matches(name, instances(), n=3)
    nearest = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no facts about instance type '{name}'{nearest}"


def _instance(row: dict[str, str]) -> InstanceFact:
    return InstanceFact(
        type=row["type"],
        accelerator=accelerators()[row["accelerator"]] if row["accelerator"] else None,
        accelerators=int(row["accelerators"]),
        vcpus=int(row["vcpus"]),
        memory_gib=float(row["memory_gib"]),
        nvme={"yes": True, "no": False, "unknown": None}[row["nvme"]],
        network_gbps=float(row["network_gbps"]),
        network_kind=_NETWORK[row["network_kind"]],
        usd_per_hour=None if row["usd_per_hour"] == "unknown" else float(row["usd_per_hour"]),
        price_how=_PRICE[row["price_how"]],
        price_origin=origins()[row["price_source"]],
        origin=origins()[row["facts_source"]],
    )


def _rows(table: str) -> list[dict[str, str]]:
    with (resources.files(__name__) / table).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
