"""When a schedule's bounds change: six fields of cron, a day that is one, a time zone that there is. Not the bounds.

Cron is Application Auto Scaling's (https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from zoneinfo import available_timezones

from heavylift.spec.fault import Fault, Path, dotted, shown
from heavylift.spec.rules.read import Data, named

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class Field(NamedTuple):
    """One of the six: `words` stand for `low` and the numbers after it, `also` is what it alone may be."""

    title: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    also: str = ""


FIELDS = (
    Field("minutes", 0, 59),
    Field("hours", 0, 23),
    Field("day of the month", 1, 31, also=r"\?|L|LW|([1-9]|[12][0-9]|3[01])W"),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 1, 7, DAYS, also=r"\?|L|[1-7]L|[1-7]#[1-5]"),
    Field("year", 1970, 2199),
)
DAY, WEEKDAY = 2, 4


def schedule_faults(row: Data, at: Path) -> Iterator[Fault]:
    """Of one row of `schedules`; a text of another form is the field's own fault."""
    when, zone = named(row, "when"), named(row, "timezone")
    here, said = (*at, "when"), f"'{dotted((*at, 'when'))}'"
    if when.startswith("cron("):
        yield from (Fault(here, f"{said} {fault}; got {shown(when)}") for fault in _cron(when[5:-1].split()))
    if when.startswith("at("):
        try:
            datetime.fromisoformat(when[3:-1])
        except ValueError as error:
            yield Fault(here, f"{said} is no moment: {error}; got {shown(when)}")
    known = available_timezones()  # none where the machine has no table of them
    if zone and known and zone not in known:
        near = difflib.get_close_matches(zone, known, n=1)
        hint = f"; did you mean {shown(near[0])}?" if near else "; a name such as Europe/Berlin"
        yield Fault((*at, "timezone"), f"there is no time zone {shown(zone)}{hint}")


def _cron(values: list[str]) -> Iterator[str]:
    if len(values) != len(FIELDS):
        titles = ", ".join(field.title for field in FIELDS)
        yield f"has {len(values)} fields; cron has {len(FIELDS)}: {titles}"
        return
    for field, value in zip(FIELDS, values, strict=True):
        if not all(_holds(field, part) for part in value.upper().split(",")):
            words = f", or {field.words[0]} to {field.words[-1]}" if field.words else ""
            yield f"has {shown(value)} as {field.title}, which is {field.low} to {field.high}{words}"
    if (values[DAY] == "?") == (values[WEEKDAY] == "?"):
        yield "must have '?' as day of the month or as day of the week, and not as both"


def _holds(field: Field, part: str) -> bool:
    """`*`, a number or word, a range, or one of these with `/` and a step."""
    if field.also and re.fullmatch(field.also, part):
        return True
    span, slash, step = part.partition("/")
    if slash and (not step.isdecimal() or int(step) < 1):
        return False
    if span == "*":
        return True
    ends = [_number(field, end) for end in span.split("-")]
    return len(ends) <= 2 and all(end is not None and field.low <= end <= field.high for end in ends)


def _number(field: Field, text: str) -> int | None:
    if text in field.words:
        return field.low + field.words.index(text)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else None
