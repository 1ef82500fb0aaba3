"""Capacity: which machines a variant runs on: instances, pools of several types, or none of one's own (serverless).

Not how many later: scaling.py. Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heavylift_cdk.bounds import between

if TYPE_CHECKING:
    from heavylift_cdk.container import Container

TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")


@dataclass(frozen=True)
class Instances:
    """`count` machines of one type."""

    type: str
    count: int = 1

    @property
    def types(self) -> tuple[str, ...]:
        """Every instance type that may run."""
        return (self.type,)

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from _type_faults(self.type)
        yield from between("count", self.count, 1, 1_000_000)


@dataclass(frozen=True)
class Pool:
    """One of several types; priority 1 is tried first. `containers` where this type needs another image or files."""

    type: str
    priority: int
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True)
class Pools:
    """Machines of the first type that has capacity within `provision_timeout_in_seconds`."""

    pools: tuple[Pool, ...]
    count: int = 1
    provision_timeout_in_seconds: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Every instance type that may run."""
        return tuple(pool.type for pool in self.pools)

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("pools", len(self.pools), 1, 5)
        yield from between("count", self.count, 1, 1_000_000)
        yield from between("provision_timeout_in_seconds", self.provision_timeout_in_seconds, 300, 3600)
        for pool in self.pools:
            yield from _type_faults(pool.type)
            yield from between(f"priority of {pool.type}", pool.priority, 1, 5)
        if len(set(self.types)) < len(self.types):
            yield f"each instance type is in one pool: got {', '.join(self.types)}"


@dataclass(frozen=True)
class Serverless:
    """SageMaker's own machines, by the request; no accelerators, and at most 6 GB of memory."""

    memory_size_in_mb: int
    max_concurrency: int
    provisioned_concurrency: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """None is known."""
        return ()

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        if self.memory_size_in_mb not in range(1024, 6145, 1024):
            yield f"'memory_size_in_mb' must be 1024, 2048, … 6144: got {self.memory_size_in_mb}"
        yield from between("max_concurrency", self.max_concurrency, 1, 200)
        yield from between("provisioned_concurrency", self.provisioned_concurrency, 1, self.max_concurrency)


Capacity = Instances | Pools | Serverless


def _type_faults(name: str) -> Iterator[str]:
    if TYPE.fullmatch(name) is None:
        yield f"an instance type looks like ml.g5.12xlarge: got '{name}'"
