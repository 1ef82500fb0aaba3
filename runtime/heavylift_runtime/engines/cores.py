"""How many cores there are to compute on, and how many threads each rank gets: one rule for all engines. No torch.

A rank's share of the cores that this process may use (its affinity, its control group's quota), and one for weights so
small that a second thread would only wait. What $OMP_NUM_THREADS says goes before that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

SMALL = 64 * 1000 * 1000
"""Bytes of weights on a rank: below, a second thread gains nothing, and on a busy machine loses 10 times."""
VARIABLE = "OMP_NUM_THREADS"
_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def threads(ranks: int, held: int = SMALL, environ: Mapping[str, str] | None = None) -> int | None:
    """Each rank's, where so many share this machine and each holds so many bytes; None: the environment says it."""
    if VARIABLE in (os.environ if environ is None else environ):
        return None
    return 1 if held < SMALL else max(1, cores() // ranks)


def stored(place: str | Path) -> int:
    """Bytes of the weights' files in a folder; as if there were many where they are not on this machine."""
    kinds = ("*.safetensors", "*.bin")
    sizes = [path.stat().st_size for kind in kinds for path in Path(place).glob(kind)]
    return sum(sizes) if sizes else 64 * SMALL


def cores(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """At least one; of a quota of one core and a half, one: a second thread would be stopped half of the time."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(int(quota) for quota in _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """Of this process's control group and of all around it, in cores; version 2 (cpu.max) and 1 (cpu.cfs_*_us)."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            found = _quota(folder)
            if found is not None:
                yield found
            if folder == root:
                break


def _quota(folder: Path) -> float | None:
    """In cores; None where there is none."""
    try:
        if (whole := folder / "cpu.max").is_file():
            quota, period = whole.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None
