"""Ranks as processes that outlive no test. What they do is a program of each test's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str] | None] | None = None,
    cwd: Path | None = None,
) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each command, with pipes of text; none outlives the block. `environments`: None is this one's."""
    every = [None] * len(commands) if environments is None else environments
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd
        )
        for command, env in zip(commands, every, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
