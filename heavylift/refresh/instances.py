"""Instance types: EC2's DescribeInstanceTypes → rows of instances.csv. Not the accelerators, which no API describes.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heavylift.plan.facts import accelerators
from heavylift.refresh.tables import Row, Tables

BATCH = 100  # values of one filter, of at most 200
NAMES = {
    "RTX PRO Server 6000": "RTX-PRO-6000",
    "RTX PRO 4500": "RTX-PRO-4500",
    "Trainium": "Trainium1",
    "Gaudi HL-205": "Gaudi",
}
"""EC2's names → accelerators.csv's, where they differ; A100s are told apart by their memory."""
URL = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html"


def refresh_instances(tables: Tables, client: Any, hosted: list[str], date: str) -> list[str]:
    """`hosted`: accelerated types that SageMaker hosts. Gives sentences on types that could not be added or found."""
    source = f"ec2-api-{date}"
    tables.source(source, date, "EC2's DescribeInstanceTypes", URL)
    wanted = [*dict.fromkeys([*(row["type"] for row in tables.instances), *hosted])]
    found = {f"ml.{each['InstanceType']}": each for each in _described(client, wanted)}
    sentences, rows = [], {row["type"]: row for row in tables.instances}
    for type_ in wanted:
        if type_ not in found:
            sentences.append(f"EC2 describes no {type_} in this region; its row stays as it was")
            continue
        row = _row(type_, found[type_], source)
        if row["accelerator"] in accelerators() or not row["accelerator"]:
            rows[type_] = row
        else:
            sentences.append(f"{type_} has a '{row['accelerator']}'; add it to accelerators.csv, then refresh again")
    tables.instances = list(rows.values())
    return sentences


def _described(client: Any, types: list[str]) -> Iterator[dict[str, Any]]:
    """A filter, unlike a list of names, leaves out those that the region has not."""
    pages = client.get_paginator("describe_instance_types")
    for first in range(0, len(types), BATCH):
        names = [type_.removeprefix("ml.") for type_ in types[first : first + BATCH]]
        for page in pages.paginate(Filters=[{"Name": "instance-type", "Values": names}]):
            yield from page["InstanceTypes"]


def _row(type_: str, said: dict[str, Any], source: str) -> Row:
    name, count = _accelerators(said)
    steady, burst = _network(said["NetworkInfo"])
    return {
        "type": type_,
        "accelerator": name,
        "accelerators": str(count),
        "vcpus": str(said["VCpuInfo"]["DefaultVCpus"]),
        "memory_gib": _number(said["MemoryInfo"]["SizeInMiB"] / 1024),
        "nvme_gb": _number(said.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        "network_gbps": steady,
        "network_burst_gbps": burst,
        "source": source,
    }


def _accelerators(said: dict[str, Any]) -> tuple[str, int]:
    devices = said.get("GpuInfo", {}).get("Gpus") or said.get("NeuronInfo", {}).get("NeuronDevices") or []
    if not devices:
        return "", 0
    name, mib = devices[0].get("Name", "unnamed"), devices[0].get("MemoryInfo", {}).get("SizeInMiB", 0)
    if name == "A100":
        name = "A100-40" if mib <= 40960 else "A100-80"
    return NAMES.get(name, name), sum(device["Count"] for device in devices)


def _network(said: dict[str, Any]) -> tuple[str, str]:
    """Gbit/s always and at best, over all cards. The named performance counts where it is more: '4x 100 Gigabit'."""
    cards = said.get("NetworkCards", [])
    steady = sum(card.get("BaselineBandwidthInGbps") or 0 for card in cards)
    burst = sum(card.get("PeakBandwidthInGbps") or 0 for card in cards)
    words = said.get("NetworkPerformance", "").split()
    if len(words) >= 2 and words[-1] == "Gigabit" and words[0] != "Up":
        times = int(words[0].removesuffix("x")) if words[0].endswith("x") else 1
        named = times * float(words[-2])
        steady, burst = named, named
    return _number(steady) if steady else "unknown", _number(burst) if burst else "unknown"


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e6 else str(value)
