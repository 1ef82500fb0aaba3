"""Shortens what the CDK CLI prints during a deployment to the events a person follows; the log keeps every line.

Not CloudFormation's own record of the events: that is stacks.failures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

EVENT = re.compile(
    r"^(?P<stack>[\w-]+) \|(?:\s*\d+(?:/\d+)? \|)? *(?P<time>[\d:]+ [AP]M)"
    r" \| (?P<status>[A-Z_]+) +\| (?P<type>\S+) +\| (?P<rest>.*)$"
)
"""An event as `--progress events` prints it: stack, count, time, status, type, construct path (logical id), reason."""

SLOW = (
    "AWS::SageMaker::Endpoint",
    "AWS::CloudFormation::Stack",
    *(f"Custom::Heavylift{what}" for what in ("BenchmarkGate", "Staged", "Prepared", "Image")),
)
"""The types whose beginning is worth a line: they take long."""


def brief(line: str) -> str | None:
    """`CREATE_COMPLETE  AWS::KMS::Key  Key`, or None for a line that tells a person nothing."""
    event = EVENT.match(line.rstrip())
    if event is None:
        return None
    status, kind, rest = event["status"], event["type"], event["rest"]
    if status.endswith("_IN_PROGRESS") and kind not in SLOW:
        return None
    what = re.sub(r" \([A-Za-z0-9]+\)", "", rest, count=1)
    return f"{status:<27} {kind:<34} {what}"


class Transcript(AbstractContextManager["Transcript"]):
    """Writes every line to `path`, and hands to `show` what `brief` leaves of it."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self.path, self._show, self._repeats = path, show, False

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "w", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __call__(self, line: str) -> None:
        self._file.write(line)
        self._repeats = self._repeats or line.startswith("Failed resources:")  # the CLI's summary of events seen above
        shown = brief(line)
        if shown is not None and not self._repeats:
            self._show(shown)
