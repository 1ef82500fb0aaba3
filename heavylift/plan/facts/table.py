"""Reading a table of facts: CSV beside this file, where a cell `unknown` says so. Not what the cells mean."""

from __future__ import annotations

import csv
import datetime
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

UNKNOWN = "unknown"
TABLES = (
    "instances.csv",
    "prices.csv",
    "accelerators.csv",
    "collectives.csv",
    "precisions.csv",
    "amis.csv",
    "sources.csv",
)


@dataclass(frozen=True)
class Origin:
    """Where a number was read, and when (ISO date)."""

    name: str
    date: str
    what: str
    url: str

    def age(self, on: datetime.date) -> int:
        """Days between the reading and `on`."""
        return (on - datetime.date.fromisoformat(self.date)).days


def rows(table: str) -> list[dict[str, str]]:
    """All rows of a table, in its order."""
    with (resources.files(__package__) / table).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(cell: str) -> float | None:
    """None where the table says `unknown`, or `no`: there is no such thing."""
    return None if cell in (UNKNOWN, "no") else float(cell)


@cache
def origins() -> dict[str, Origin]:
    """Every source by its short name."""
    return {row["source"]: Origin(row["source"], row["date"], row["what"], row["url"]) for row in rows("sources.csv")}


@cache
def digest() -> str:
    """SHA-256 (hex) over all tables: what a lock says it was planned with."""
    sha256 = hashlib.sha256()
    for table in TABLES:
        sha256.update((resources.files(__package__) / table).read_bytes())
    return sha256.hexdigest()


@cache
def dates() -> dict[str, str]:
    """The newest date among the sources that each table refers to."""
    newest: dict[str, str] = {}
    for table in TABLES:
        named = {value for row in rows(table) for key, value in row.items() if key.endswith("source")}
        if table != "sources.csv":
            newest[table.removesuffix(".csv")] = max(origins()[name].date for name in named)
    return newest
