"""A server's ranks begin only while a gate is open: what is true meanwhile stays true until the test has seen it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = """
import os, sys, time
if "worker" in sys.orig_argv:
    while os.path.exists({closed!r}):
        time.sleep(0.02)
"""


class Gate:
    """Open at first. Python reads its `sitecustomize` before anything else of a rank."""

    def __init__(self, folder: Path, *, closed: bool = False) -> None:
        """`folder`: a new one."""
        folder.mkdir()
        self._folder, self._closed = folder, folder / "closed"
        (folder / "sitecustomize.py").write_text(_PROGRAM.format(closed=str(self._closed)))
        if closed:
            self.close()

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """The environment of a server whose ranks wait for it."""
        before = given.get("PYTHONPATH", os.environ.get("PYTHONPATH"))
        return {**given, "PYTHONPATH": os.pathsep.join(filter(None, [str(self._folder), before]))}

    def open(self) -> None:
        """Whoever waits goes on."""
        self._closed.unlink(missing_ok=True)

    def close(self) -> None:
        """No rank begins."""
        self._closed.touch()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Closed for a while."""
        self.close()
        try:
            yield
        finally:
            self.open()
