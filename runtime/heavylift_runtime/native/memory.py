"""What the caches of a model hold for each sequence, in bytes, and how it moves between slots.

Not the caches themselves (cache.py).
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from pathlib import Path

import torch

from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.place import HOST
from heavylift_runtime.native.sequence import Sequence

SHARE = 0.9
"""Of the memory that is free when the weights are loaded, for the caches."""


class Caches:
    """The texts' store and, with an encoder, the sources'."""

    def __init__(self, stores: Several[Store]) -> None:
        self.stores = stores

    @property
    def taken(self) -> int:
        """Bytes that are taken from the start, whatever the slots hold: on a processor none."""
        return sum(store.content.nbytes for store in self.stores if not store.grows)

    def of(self, source: int, text: int) -> int:
        """Bytes that a row of so many tokens takes, in whole pages."""
        return sum(store.taken(count) for store, count in zip(self.stores, (text, source), strict=False))

    def copy(self, origin: Sequence, slots: list[int], targets: list[int]) -> None:
        """What slots hold into others, all at once, as much as is cached of `origin`."""
        for store, count in zip(self.stores, (origin.cached, len(origin.source)), strict=False):
            store.copy(slots, targets, count)

    def move(self, sequence: Sequence, slot: int) -> None:
        """Takes what is held for a sequence into another slot; its own is free afterwards."""
        self.copy(sequence, [sequence.slot], [slot])
        self.drop(sequence.slot)

    def drop(self, slot: int) -> None:
        """Forgets what a slot holds."""
        for store in self.stores:
            store.drop(slot)


def free(device: torch.device = HOST) -> int:
    """Bytes that may be taken: of a rank's own GPU, or, by all processes together, of this machine or container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    left = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", used)
        if most.is_file() and most.read_text("ascii").strip() != "max":
            left = min(left, int(most.read_text("ascii")) - int(now.read_text("ascii")))
    return max(0, left)
