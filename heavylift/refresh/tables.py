"""The tables of facts as files: read, compared, and written so that a reader sees the old one or the new one.

Not their meaning: heavylift.plan.facts.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import InputError

Row = dict[str, str]
DATED = ("price-list-", "ec2-api-")
"""Sources that a refresh writes; one that no row refers to is dropped."""


@dataclass(frozen=True)
class Change:
    """One cell that is now another; `old` empty: a new row."""

    table: str
    row: str
    field: str
    old: str
    new: str


@dataclass
class Tables:
    """The three tables that a refresh may change, in their order."""

    folder: Path
    instances: list[Row]
    prices: list[Row]
    sources: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Tables:
        """From the folder with the CSV files."""
        return cls(folder, *(list(_read(folder / f"{name}.csv")) for name in ("instances", "prices", "sources")))

    def source(self, name: str, date: str, what: str, url: str) -> None:
        """Adds a source, or renews it."""
        row = {"source": name, "date": date, "what": what, "url": url}
        self.sources = [each for each in self.sources if each["source"] != name] + [row]

    def write(self) -> list[Change]:
        """Writes what differs; gives the cells that changed, those that only say where and when left out.

        Sources first: whatever stops the rest, no row names a source that is not there.
        """
        old = Tables.read(self.folder)
        changes = [
            *_changes("instances", old.instances, self.instances, ("type",)),
            *_changes("prices", old.prices, self.prices, ("type", "region")),
        ]
        used = {row["source"] for table in (self.instances, self.prices) for row in table}
        kept = [row for row in self.sources if not row["source"].startswith(DATED) or row["source"] in used]
        known = {row["source"] for row in kept}
        _write(self.folder / "sources.csv", kept + [row for row in old.sources if row["source"] not in known])
        _write(self.folder / "instances.csv", self.instances)
        _write(self.folder / "prices.csv", self.prices)
        _write(self.folder / "sources.csv", kept)
        return changes


def _changes(table: str, old: list[Row], new: list[Row], key: tuple[str, ...]) -> Iterator[Change]:
    before = {tuple(row[name] for name in key): row for row in old}
    for row in new:
        name = " ".join(row[part] for part in key)
        was = before.get(tuple(row[part] for part in key), {})
        for field, value in row.items():
            if field != "source" and field not in key and value != was.get(field, ""):
                yield Change(table, name, field, was.get(field, ""), value)


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _write(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if text.getvalue() == path.read_text(encoding="utf-8"):
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; run the command in a checkout of your own") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
