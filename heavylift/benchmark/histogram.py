"""A histogram of durations whose buckets are equal everywhere, so that the histograms of many shards add up exactly.

Not the samples: a value is known to 3 significant digits, from 1 microsecond to 1 hour. The layout is that of
HdrHistogram (https://github.com/HdrHistogram/HdrHistogram): halving resolution with each doubling of the value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError

FORMAT = "heavylift.histogram/1"
DIGITS = 3
HALF_BITS = 10  # 2**11 sub-buckets: the power of two at or above 2 * 10**DIGITS, so that one unit is 1/1000 or less
LONGEST_US = 3_600_000_000
FIELDS = {
    "format": Field(str, choices=(FORMAT,)),
    "unit": Field(str, choices=("us",)),
    "digits": Field(int, least=DIGITS, most=DIGITS),
    "counts": Field(list),
}


class Histogram:
    """Counts of whole microseconds by bucket."""

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter({} if counts is None else counts)

    @classmethod
    def of_ms(cls, values: Iterable[float]) -> Self:
        """From milliseconds; what is longer than an hour counts as an hour, what is below a microsecond as one."""
        made = cls()
        for value in values:
            made.counts[bucket(min(LONGEST_US, max(1, round(value * 1000))))] += 1
        return made

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def percentile(self, percent: float) -> float | None:
        """The largest value, in ms, that the nearest rank's bucket stands for; None where nothing was counted."""
        if not self.total:
            return None
        rank = max(1, math.ceil(percent / 100 * self.total - 1e-9))
        for index in sorted(self.counts):
            rank -= self.counts[index]
            if rank <= 0:
                return upper_us(index) / 1000
        raise AssertionError("the ranks are those of the counts")

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "unit": "us", "digits": DIGITS, "counts": sorted(map(list, self.counts.items()))}

    @classmethod
    def from_dict(cls, document: Any) -> Self:
        """Raises FormatError for what is not such a histogram."""
        found = shape.faults(document, FIELDS, "histogram")
        counts = [] if found else document["counts"]
        if not all(
            isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and n >= 0 for n in pair)
            for pair in counts
        ):
            found = ["histogram.counts must be pairs of a bucket and a count"]
        if found:
            raise FormatError(found)
        return cls(dict(counts))


def bucket(value_us: int) -> int:
    """The bucket of a number of microseconds: exact below 2048, then 1024 buckets for each doubling."""
    shift = max(0, value_us.bit_length() - HALF_BITS - 1)
    return (shift << HALF_BITS) + (value_us >> shift)


def upper_us(index: int) -> int:
    """The largest number of microseconds in a bucket."""
    shift = max(0, (index >> HALF_BITS) - 1)
    return ((index - (shift << HALF_BITS) + 1) << shift) - 1
