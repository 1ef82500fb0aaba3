"""The machine that something was measured on. Not the measurement."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    threads: int
    system: str

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return cls(names[0] if names else platform.machine(), len(os.sched_getaffinity(0)), platform.platform())


def threads_per_core() -> int:
    """Hardware threads that share a physical core, as Linux tells it (sysfs, cpu topology); 1 where it does not."""
    siblings = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    if not siblings.exists():
        return 1
    ranges = (part.partition("-") for part in siblings.read_text(encoding="ascii").strip().split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
