"""Project: the checkout that holds app.py, models/ and the state in .heavylift/; and the lock of one command at a time.

Not a model file: that is heavylift.spec.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import BusyError, InputError


@dataclass(frozen=True)
class Project:
    """A Heavylift checkout, by its root folder."""

    root: Path

    @classmethod
    def find(cls, start: Path) -> Project:
        """The nearest folder at or above `start` with app.py and cdk.json; InputError if there is none."""
        for folder in (start, *start.parents):
            if (folder / "app.py").is_file() and (folder / "cdk.json").is_file():
                return cls(folder)
        raise InputError(f"no app.py and cdk.json in '{start}' or above it: run this inside a Heavylift checkout")

    @property
    def home(self) -> Path:
        """The folder of everything that commands write; git ignores it."""
        return self.root / ".heavylift"

    @property
    def assembly(self) -> Path:
        """Where `cdk synth` writes the cloud assembly."""
        return self.home / "cdk.out"

    def models(self) -> list[Path]:
        """Every model file, sorted; `base.yaml` and `*.base.yaml` are what model files extend, and no models."""
        return [
            file
            for file in sorted((self.root / "models").glob("*.yaml"))
            if file.name != "base.yaml" and not file.name.endswith(".base.yaml")
        ]

    @contextmanager
    def only_one(self, command: str) -> Iterator[None]:
        """Hold the project for `command`; BusyError names the command and process that holds it already."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        with open(self.home / "busy", "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another command"
                raise BusyError(f"{holder} is at work in '{self.root}'; wait for it to end, or stop it") from None
            file.truncate(0)
            file.write(f"'heavylift {command}' (process {os.getpid()})")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)
