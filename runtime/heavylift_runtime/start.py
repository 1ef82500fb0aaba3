"""What a rank is told first: of which model it is which rank. Not its work: steps.py, calls.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift_runtime.options import Options


@dataclass(frozen=True)
class Start:
    """`scratch`: a folder that all ranks of the copy may write, and that goes with it; `rendezvous`: where they meet.

    `target`: where a script writes its partition, in place of serving.
    """

    options: Options
    folder: Path
    scratch: Path
    rank: int
    rendezvous: str
    target: Path | None = None

    def header(self) -> dict[str, Any]:
        """As a message's."""
        return {
            "type": "start",
            "options": self.options.to_json(),
            "folder": str(self.folder),
            "scratch": str(self.scratch),
            "rank": self.rank,
            "rendezvous": self.rendezvous,
            "target": None if self.target is None else str(self.target),
        }

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Start:
        """The inverse of header."""
        target = header["target"]
        return cls(
            Options.from_json(header["options"]),
            Path(header["folder"]),
            Path(header["scratch"]),
            header["rank"],
            header["rendezvous"],
            None if target is None else Path(target),
        )
