"""Instances and network. Not how many: scaling.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heavylift.plan import facts
from heavylift.plan.images import amis
from heavylift.spec.fault import Fault, Path, dotted, shown
from heavylift.spec.rules.read import Data, Rule, part, rows


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


def pools(data: Data) -> Iterator[Fault]:
    """Several types stand in for one: each once, of one kind of hardware, since they run one image."""
    found = rows(data, "instance_pools")
    if data.get("instance_pools") is None:
        if data.get("variant_instance_provision_timeout_in_seconds") is not None:
            key = "variant_instance_provision_timeout_in_seconds"
            yield Fault((key,), f"'{key}' belongs to 'instance_pools'", at_key=True)
        return
    if data.get("instance_type", "auto") != "auto":
        sentence = "'instance_type' cannot be combined with 'instance_pools'; put it among them"
        yield Fault(("instance_type",), sentence, at_key=True)
    seen: dict[str, set[object]] = {"instance_type": set(), "priority": set()}
    hardware: dict[str, str] = {}
    for index, row in enumerate(found):
        path = ("instance_pools", index)
        for key, before in seen.items():
            value = row.get(key) if isinstance(row, dict) else None
            if value is not None and str(value) in before:
                yield Fault((*path, key), f"a second {key} {shown(value)}; each pool has its own")
            before.add(str(value))
        name = row.get("instance_type") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.startswith("ml."):
            continue
        fact = facts.instances().get(name)
        if fact is None:
            yield Fault((*path, "instance_type"), facts.unknown_type(name))
            continue
        hardware.setdefault(fact.hardware, name)
        if len(hardware) > 1 and hardware[fact.hardware] == name:
            other = next(iter(hardware.values()))
            sentence = f"the pools must be of one hardware, for one image runs on all: {name} is {fact.hardware}"
            yield Fault((*path, "instance_type"), f"{sentence}, {other} is not")
        if fact.nvme and data.get("volume_size_in_gb", "auto") != "auto":
            sentence = f"'volume_size_in_gb' must be left out: {name} has NVMe storage, and SageMaker refuses it there"
            yield Fault(("volume_size_in_gb",), sentence, at_key=True)


def machine_image(data: Data) -> Iterator[Fault]:
    """A GPU's driver is of no use to a Neuron device; the file's pools and variants share the image."""
    found = next((each for each in amis() if each.version == data.get("inference_ami_version")), None)
    others = [*rows(data, "instance_pools"), *rows(data, "variants"), data.get("shadow")]
    named = [data.get("instance_type"), *(row.get("instance_type") for row in others if isinstance(row, dict))]
    for fact in filter(None, (facts.instances().get(name) for name in dict.fromkeys(map(str, named)))):
        if found is None or found.hardware == fact.hardware:
            continue
        allowed = [each.version for each in amis() if each.hardware == fact.hardware]
        mend = f"use {' or '.join(allowed)}" if allowed else "leave it out"
        sentence = f"'inference_ami_version' {found.version} is for {found.hardware}; {fact.type} is {fact.hardware}"
        yield Fault(("inference_ami_version",), f"{sentence}: {mend}")


def reservation(data: Data) -> Iterator[Fault]:
    """Reserved capacity is of one type."""
    if data.get("capacity_reservation") is not None and data.get("instance_type", "auto") == "auto":
        yield Fault(("capacity_reservation",), "'capacity_reservation' needs the 'instance_type' that is reserved")


def routing(data: Data) -> Iterator[Fault]:
    """Only some containers tell SageMaker what their caches hold."""
    image = part(data, "image", "dlc").get("framework")
    if part(data, "routing").get("strategy") == "kv_aware" and image != "vllm":
        sentence = "'routing.strategy' kv_aware needs a container that tells of its cache: 'image.dlc.framework' vllm"
        yield Fault(("routing", "strategy"), sentence)


def replies(data: Data) -> Iterator[Fault]:
    """A message that is to hold the reply is sent to a topic."""
    said = part(data, "async_inference")
    for place, kind in enumerate(rows(data, "async_inference", "include_response_in")):
        if kind in ("success", "error") and said.get(f"{kind}_topic") is None:
            path = ("async_inference", "include_response_in", place)
            yield Fault(path, f"'{dotted(path)}' {kind} needs 'async_inference.{kind}_topic', which gets the reply")


def regions(data: Data) -> Iterator[Fault]:
    """Keys, secrets and topics are in the region and account that the file names."""
    for path, value in _arns(data, ()):
        account, region = data.get("account"), data.get("region")
        _, _, service, where, whose, *_ = [*value.split(":"), "", "", "", "", ""]
        if isinstance(region, str) and where and where != region:
            yield Fault(path, f"'{dotted(path)}' is in {where}; the file's 'region' is {region}")
        if isinstance(account, str) and whose and whose != account and service == "kms":
            yield Fault(path, f"'{dotted(path)}' is of account {whose}; the file's 'account' is {account}")


def _arns(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in steps:
        yield from _arns(each, (*path, step))
    if isinstance(value, str) and value.startswith("arn:aws"):
        yield path, value


RULES: tuple[Rule, ...] = (instance, isolation, pools, machine_image, reservation, routing, replies, regions)
