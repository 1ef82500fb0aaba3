"""What a long command says while it works: numbered steps with their seconds, on stderr.

Not the results: those go to stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Console:
    """Numbered steps. `seconds` keeps each step's duration, in order."""

    total: int = 0
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, line: str = "") -> None:
        print(line, file=self.stream, flush=True)

    def detail(self, line: str) -> None:
        """A line of a program that the step runs."""
        self.say(f"    │ {line.rstrip()}")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and its seconds when it ends well."""
        started = self.clock()
        self.say(f"[{len(self.seconds) + 1}/{self.total}] {title}")
        yield
        self.seconds[title] = self.clock() - started
        self.say(f"    └ {self.seconds[title]:.1f} s")

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) in bytes: redrawn in place on a terminal, silent elsewhere."""

        def show(done: int, total: int) -> None:
            if self.stream.isatty() and total > 0:
                filled = 30 * done // total
                bar = "█" * filled + "·" * (30 - filled)
                end = "\n" if done >= total else ""
                self.stream.write(f"\r    │ {what} {bar} {100 * done // total:3d} %{end}")
                self.stream.flush()

        return show
