"""A lock between processes, held by an open file: the kernel frees it when its holder ends, however that is.

Not the lock of one command at a time, which refuses instead of waiting: that is heavylift.project.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock file `path`, made with its folder (private to the user) where missing, and hold it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
