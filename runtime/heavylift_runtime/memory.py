"""How much memory a model's weights take, and how much this machine, or its container, has left. Not a GPU's memory."""

from __future__ import annotations

from pathlib import Path

from heavylift_runtime.options import Options

MEGABYTE = 2**20
_LIMITS = (  # of a container: control groups of version 2, and of version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def weight_bytes(folder: Path, options: Options) -> int:
    """The size of all copies' weight files; 0 where they are not on this machine yet."""
    place = folder if options.model_id is None else folder / options.model_id
    files = [path for kind in ("*.safetensors", "*.bin") for path in place.glob(kind)]
    return options.workers * sum(path.stat().st_size for path in files)


def free_bytes() -> int:
    """What can be had without swapping, in the machine and within the container's limit."""
    meminfo = Path("/proc/meminfo").read_text()
    available = next(line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    left = [int(available.split()[1]) * 1024]
    for limit, used in _LIMITS:
        most = _number(limit)
        if most is not None:
            left.append(most - (_number(used) or 0))
    return min(left)


def _number(path: str) -> int | None:
    """The number in a file of the kernel; None where there is no such file, or no limit in it."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
