"""What a long command says on stderr while it works: numbered steps with their seconds, and the lines of what they run.

Not the results: those go to stdout. On a terminal the step at work shows a spinner and how far it is; elsewhere there
are plain lines only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console as Terminal
from rich.status import Status
from rich.text import Text

BAR = 30


def _stderr() -> Terminal:
    return Terminal(stderr=True, highlight=False, soft_wrap=True)


@dataclass
class Console:
    """Numbered steps of `total`. `seconds` keeps each step's duration, in order."""

    total: int = 0
    terminal: Terminal = field(default_factory=_stderr)
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    _status: Status | None = None

    def say(self, line: str = "") -> None:
        """Print one line, with nothing in it interpreted."""
        self.terminal.print(Text(line))

    def detail(self, line: str) -> None:
        """A line of a program that the step runs."""
        self.say(f"    │ {line.rstrip()}")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and its seconds when it ends well."""
        started = self.clock()
        self.say(f"[{len(self.seconds) + 1}/{self.total}] {title}")
        with self.working(title):
            yield
        self.seconds[title] = self.clock() - started
        self.say(f"    └ {self.seconds[title]:.1f} s")

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        """A spinner on a terminal, nothing elsewhere."""
        if not self.terminal.is_terminal:
            yield
            return
        with self.terminal.status(Text(title)) as self._status:
            try:
                yield
            finally:
                self._status = None

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) that draws a bar beside the spinner of the step at work."""

        def show(done: int, total: int) -> None:
            if self._status is not None and total > 0:
                filled = BAR * done // total
                bar = "█" * filled + "·" * (BAR - filled)
                self._status.update(Text(f"{what} {bar} {100 * done // total:3d} %"))

        return show
