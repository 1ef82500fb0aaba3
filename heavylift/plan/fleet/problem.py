"""A fleet problem: request sizes with their rates, instance types with their prices and throughputs, and bounds.

Not its reading from a file (read.py), nor its answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from heavylift.errors import InputError

MOST_POOLS = 5  # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html, InstancePools
TOLERANCE = 1e-6  # of an instance, HiGHS's own for rows and integers: work within it of a capacity counts as within
MOST_USD = 1e9  # an hour, for one instance
MOST_LOAD = 1e9  # instances for one bucket; a larger quotient of rate and throughput counts as "cannot serve it"


Pair = tuple[int, int]  # the places of an offer and of a bucket that it can serve


@dataclass(frozen=True)
class Bucket:
    """Requests of one size, and how many of them arrive in a second. `label` where the size itself is not known."""

    input_tokens: int
    output_tokens: int
    requests_per_second: float
    label: str | None = None

    def __str__(self) -> str:
        return self.label if self.label is not None else f"{self.input_tokens} tokens in, {self.output_tokens} out"


@dataclass(frozen=True)
class Offer:
    """An instance type: US dollars an hour, and for each bucket the requests per second that one instance answers
    within the SLO when it gets nothing else; 0 where it cannot. `at_most` None is no quota."""

    name: str
    usd_per_hour: float
    throughput: tuple[float, ...]
    at_least: int = 0
    at_most: int | None = None


@dataclass(frozen=True)
class Problem:
    """`head_room` is the share of each instance that stays free; `most_types` bounds the distinct types."""

    buckets: tuple[Bucket, ...]
    offers: tuple[Offer, ...]
    head_room: float = 0.0
    minimum_instances: int = 1
    most_types: int = MOST_POOLS

    def load(self, offer: Offer, bucket: int) -> float | None:
        """Instances of this type that the bucket's rate fills; None where the type cannot serve it."""
        rate, throughput = self.buckets[bucket].requests_per_second, offer.throughput[bucket]
        if throughput <= 0 or rate > throughput * MOST_LOAD:
            return None
        return rate / throughput

    def pairs(self) -> dict[Pair, float]:
        """Every offer and bucket that can be, with the instances that the whole bucket fills."""
        loads = {
            (place, bucket): self.load(offer, bucket)
            for place, offer in enumerate(self.offers)
            for bucket in self.asked
            if offer.at_most != 0
        }
        return {pair: load for pair, load in loads.items() if load is not None}

    @property
    def asked(self) -> tuple[int, ...]:
        """The buckets that anybody asks for."""
        return tuple(place for place, bucket in enumerate(self.buckets) if bucket.requests_per_second > 0)

    @property
    def requests_per_second(self) -> float:
        return math.fsum(bucket.requests_per_second for bucket in self.buckets)

    def check(self) -> None:
        """Raises InputError with every fault of the numbers."""
        faults = tuple(self._faults())
        if faults:
            raise InputError(faults)

    def _faults(self) -> Iterator[str]:
        if not self.buckets:
            yield "the fleet has no buckets; name at least one request size with its rate"
        if not self.offers:
            yield "the fleet has no instance types; name at least one with its price and throughput"
        for bucket in self.buckets:
            if not _at_least(bucket.requests_per_second, 0):
                yield f"requests per second of {bucket} must be 0 or more; got {bucket.requests_per_second}"
        for name, count in Counter(offer.name for offer in self.offers).items():
            if count > 1:
                yield f"{name} is offered {count} times; name each type once"
        for offer in self.offers:
            yield from self._offer_faults(offer)
        if not (_at_least(self.head_room, 0) and self.head_room < 1):
            yield f"head room must be 0 or more and below 1; got {self.head_room}"
        if self.minimum_instances < 1:
            yield f"minimum instances must be 1 or more, as an endpoint has; got {self.minimum_instances}"
        if not 1 <= self.most_types <= MOST_POOLS:
            yield f"types must be 1 to {MOST_POOLS}, SageMaker's limit of instance pools; got {self.most_types}"

    def _offer_faults(self, offer: Offer) -> Iterator[str]:
        if not 0 <= offer.usd_per_hour <= MOST_USD:
            price = f"must be from 0 to {MOST_USD:,.0f} US dollars an hour; got {offer.usd_per_hour}"
            yield f"the price of {offer.name} {price}"
        if len(offer.throughput) != len(self.buckets):
            yield f"{offer.name} has {len(offer.throughput)} throughputs for {len(self.buckets)} buckets"
        for bucket, value in zip(self.buckets, offer.throughput, strict=False):
            if not _at_least(value, 0):
                yield f"{offer.name}'s throughput for {bucket} must be 0 (cannot) or more; got {value}"
        if offer.at_least < 0:
            yield f"at least of {offer.name} must be 0 or more; got {offer.at_least}"
        if offer.at_most is not None and offer.at_most < offer.at_least:
            yield f"at most of {offer.name} is {offer.at_most}, less than its at least of {offer.at_least}"


def whole(load: float) -> int:
    """Instances for so much load; no extra one for a rounding error."""
    return math.ceil(load - TOLERANCE * max(1.0, load))


def _at_least(value: float, low: float) -> bool:
    """False for NaN and infinity too."""
    return math.isfinite(value) and value >= low
