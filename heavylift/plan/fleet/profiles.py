"""Measured throughputs from a CSV file: instance type, tokens in and out, requests per second, and perhaps the price.

Not the computed ones. 0 says that a type cannot serve a size within the SLO; a row that is not there is a fault, since
nothing is guessed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heavylift.errors import InputError
from heavylift.plan.fleet.problem import Bucket

COLUMNS = ("instance_type", "input_tokens", "output_tokens", "requests_per_second")
PRICE = "usd_per_hour"
LARGEST_BYTES = 16 * 2**20


@dataclass
class Profiles:
    """By instance type: requests per second for (input tokens, output tokens), and dollars an hour where given."""

    throughput: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)
    usd_per_hour: dict[str, float] = field(default_factory=dict)

    def of(self, name: str, buckets: tuple[Bucket, ...]) -> tuple[float, ...]:
        """A type's throughputs in the order of the buckets. Raises InputError naming the rows that are missing."""
        table = self.throughput.get(name, {})
        missing = [str(bucket) for bucket in buckets if (bucket.input_tokens, bucket.output_tokens) not in table]
        if missing:
            first = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise InputError(f"the profiles have no row for {name} at {first}; write 0 where it cannot serve them")
        return tuple(table[bucket.input_tokens, bucket.output_tokens] for bucket in buckets)


def read_profiles(path: Path) -> Profiles:
    """Raises InputError with every fault, each with its line."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB, too large for profiles")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8; save it as UTF-8") from error
    reader = csv.DictReader(text.splitlines())
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise InputError(f"{path}:1: no column {' and '.join(missing)}; the columns are {', '.join((*COLUMNS, PRICE))}")
    profiles = Profiles()
    faults = [f"{path}:{line}: {fault}" for line, row in enumerate(reader, 2) for fault in _take(profiles, row)]
    if faults:
        raise InputError(faults)
    return profiles


def _take(profiles: Profiles, row: dict[str, str | None]) -> Iterator[str]:
    """Put one row among the profiles; its faults are given."""
    name = (row["instance_type"] or "").strip()
    if not name:
        yield "instance_type is empty"
    numbers = {column: _number(row[column]) for column in COLUMNS[1:]}
    for column, number in numbers.items():
        whole = column != "requests_per_second"
        if number is None or (whole and (number < 1 or not number.is_integer())):
            kind = "a whole number of at least 1" if whole else "a number of at least 0 (0: cannot serve it)"
            yield f"{column} must be {kind}; got {row[column]!r}"
    price = _number(row[PRICE]) if (row.get(PRICE) or "").strip() else None
    if (row.get(PRICE) or "").strip() and price is None:
        yield f"{PRICE} must be a number of at least 0; got {row[PRICE]!r}"
    if price is not None and profiles.usd_per_hour.setdefault(name, price) != price:
        yield f"{name} costs {price} here and {profiles.usd_per_hour[name]} above; a type has one price"
    prompt, answer, rate = (numbers[column] for column in COLUMNS[1:])
    if prompt is not None and answer is not None and rate is not None:
        table, size = profiles.throughput.setdefault(name, {}), (int(prompt), int(answer))
        if size in table:
            yield f"{name} at {size[0]} tokens in, {size[1]} out has a row above"
        table[size] = rate


def _number(text: str | None) -> float | None:
    """None for what is not a finite number of at least 0."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
