"""A trace of requests: when each arrives, how long its prompt is, how many tokens it generates. Not its serving.

One JSON object a line: {"arrival_s": 0.25, "input_tokens": 120, "output_tokens": 40}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.errors import InputError

LONGEST = 10_000_000  # tokens of a prompt or an answer, far above every model's context
MOST_FAULTS = 20
KEYS = ("arrival_s", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class Arrival:
    """One request: seconds since the trace's beginning, tokens."""

    arrival_s: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> tuple[Arrival, ...]:
    """In order of arrival. Raises InputError with the faulty lines, each by its number; at most twenty are shown."""
    arrivals: list[Arrival] = []
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _take(line, f"{path}:{number}", arrivals, faults)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8; save it as UTF-8") from error
    if len(faults) > MOST_FAULTS:
        faults = [*faults[:MOST_FAULTS], f"{path}: {len(faults) - MOST_FAULTS} more faults"]
    if not arrivals and not faults:
        faults.append(f"{path} has no requests; a line is like {_example()}")
    if faults:
        raise InputError(faults)
    return tuple(sorted(arrivals, key=lambda arrival: arrival.arrival_s))


def _take(line: str, place: str, arrivals: list[Arrival], faults: list[str]) -> None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        faults.append(f"{place}: not JSON; a line is like {_example()}")
        return
    if not isinstance(entry, dict):
        faults.append(f"{place}: not an object; a line is like {_example()}")
        return
    found = [f"{place}: {fault}" for fault in _faults(entry)]
    if not found:
        arrivals.append(Arrival(float(entry["arrival_s"]), entry["input_tokens"], entry["output_tokens"]))
    faults += found


def _faults(entry: dict[str, Any]) -> Iterator[str]:
    if unknown := [key for key in entry if key not in KEYS]:
        yield f"unknown key {unknown[0]!r}; the keys are {', '.join(KEYS)}"
    for key in KEYS:
        if key not in entry:
            yield f"'{key}' is missing"
    arrival = entry.get("arrival_s", 0)
    number = isinstance(arrival, int | float) and not isinstance(arrival, bool)
    if not number or not 0 <= arrival < math.inf or arrival > 1e12:
        yield f"'arrival_s' must be a number of seconds from 0 on; got {json.dumps(arrival)[:40]}"
    for key in KEYS[1:]:
        tokens = entry.get(key, 1)
        if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= LONGEST:
            yield f"'{key}' must be a whole number from 1 to {LONGEST}; got {json.dumps(tokens)[:40]}"


def _example() -> str:
    return json.dumps(dict(zip(KEYS, (0.25, 120, 40), strict=True)))
