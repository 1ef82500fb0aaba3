"""A fleet file: request sizes with rates, the SLO, the types with their bounds, and measured profiles if there are any.

Not the solving. YAML or JSON in our form, or Mélange's own JSON input (`gpu_info`, `workload_distribution`,
`total_request_rate`), whose tables then are answered without slices.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError

from heavylift.errors import InputError
from heavylift.plan.fleet.problem import MOST_POOLS, Bucket, Offer, Problem
from heavylift.spec.document import Document
from heavylift.spec.fault import Fault
from heavylift.spec.fields import Strictly
from heavylift.spec.wording import field_faults

FORMAT: Literal["heavylift.fleet/1"] = "heavylift.fleet/1"
SUM = 1e-6  # by which shares may miss 1


class BucketEntry(Strictly):
    """Requests of one size: a share of the whole rate, or a rate of its own."""

    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    share: float | None = Field(None, ge=0, le=1)
    requests_per_second: float | None = Field(None, ge=0)


class TypeEntry(Strictly):
    """Bounds of one instance type; `throughput` in requests per second, in the order of the buckets."""

    usd_per_hour: float | None = Field(None, ge=0)
    at_least: int = Field(0, ge=0)
    at_most: int | None = Field(None, ge=0)
    throughput: Annotated[tuple[float, ...], Strict(False)] | None = None


class Slo(Strictly):
    """What each request is promised, in milliseconds."""

    ttft_ms: float | None = Field(None, gt=0)
    tpot_ms: float | None = Field(None, gt=0)


class FleetFile(Strictly):
    """The file's fields. `head_room` None is none for measured profiles, a tenth for computed ones."""

    format: Literal["heavylift.fleet/1"]
    requests_per_second: float | None = Field(None, ge=0)
    buckets: Annotated[tuple[BucketEntry, ...], Strict(False)] = Field(min_length=1)
    slo: Slo = Slo()
    types: dict[str, TypeEntry] = Field(default={}, description="without any, every type of the fact table is offered")
    profiles: str | None = Field(None, description="a CSV file beside this one")
    head_room: float | None = Field(None, ge=0, lt=1)
    minimum_instances: int = Field(1, ge=1)
    most_types: int = Field(MOST_POOLS, ge=1, le=MOST_POOLS)

    def sizes(self) -> tuple[Bucket, ...]:
        """The buckets with their rates."""
        return tuple(Bucket(bucket.input_tokens, bucket.output_tokens, self._rate(bucket)) for bucket in self.buckets)

    def _rate(self, bucket: BucketEntry) -> float:
        if bucket.requests_per_second is not None:
            return bucket.requests_per_second
        assert self.requests_per_second is not None and bucket.share is not None, "checked by read"
        return bucket.share * self.requests_per_second


class MelangeGpu(Strictly):
    """Dollars an hour, and requests per second by input and output size."""

    cost: float = Field(ge=0)
    tputs: list[list[float]]


class MelangeFile(Strictly):
    """The input of Mélange's own solver (arXiv 2404.14527). `slice_factor` changes nothing here."""

    gpu_info: dict[str, MelangeGpu] = Field(min_length=1)
    workload_distribution: list[list[float]] = Field(min_length=1)
    total_request_rate: float = Field(ge=0)
    slice_factor: int = 1

    def problem(self) -> Problem:
        """Sizes are named by their place: the file does not tell them."""
        weights, rate = self.workload_distribution, self.total_request_rate
        places = [(row, column) for row in range(len(weights)) for column in range(len(weights[row]))]
        return Problem(
            tuple(
                Bucket(row, column, weights[row][column] * rate, f"row {row + 1}, column {column + 1}")
                for row, column in places
            ),
            tuple(
                Offer(name, gpu.cost, tuple(gpu.tputs[row][column] for row, column in places))
                for name, gpu in self.gpu_info.items()
            ),
        )


def read(path: Path) -> FleetFile | MelangeFile:
    """Raises InputError with every fault, each with its line and column."""
    document = Document.read(path)
    data = _json(path, document.data)
    kind = MelangeFile if isinstance(data, dict) and "gpu_info" in data else FleetFile
    faults = list(document.faults)
    read_: FleetFile | MelangeFile | None = None
    try:
        read_ = kind.model_validate(data)
    except ValidationError as error:
        faults += field_faults(error, data, kind.model_json_schema())
    if read_ is not None:
        faults += _melange_faults(read_) if isinstance(read_, MelangeFile) else _faults(read_)
    if faults:
        raise InputError(document.located(faults))
    assert read_ is not None
    return read_


def _json(path: Path, data: Any) -> Any:
    """What a JSON file says: YAML 1.1 takes its 1e-06 for text."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return data


def _faults(read_: FleetFile) -> Iterator[Fault]:
    shares = [bucket.share for bucket in read_.buckets if bucket.share is not None]
    for place, bucket in enumerate(read_.buckets):
        if (bucket.share is None) == (bucket.requests_per_second is None):
            sentence = f"'buckets[{place}]' needs either 'share' or 'requests_per_second'"
            yield Fault(("buckets", place), sentence)
    if shares and read_.requests_per_second is None:
        yield Fault(("requests_per_second",), "'requests_per_second' is missing: the buckets have shares of it")
    if shares and abs(math.fsum(shares) - 1) > SUM:
        yield Fault(("buckets",), f"the shares of the buckets add up to {math.fsum(shares):g}; they must add up to 1")
    for name, entry in read_.types.items():
        if entry.throughput is not None and len(entry.throughput) != len(read_.buckets):
            counts = f"{len(entry.throughput)} numbers for {len(read_.buckets)} buckets"
            yield Fault(("types", name, "throughput"), f"'types.{name}.throughput' has {counts}")
        if entry.at_most is not None and entry.at_most < entry.at_least:
            below = f"{entry.at_most}, less than its at_least of {entry.at_least}"
            yield Fault(("types", name, "at_most"), f"'types.{name}.at_most' is {below}")


def _melange_faults(read_: MelangeFile) -> Iterator[Fault]:
    shape = [len(row) for row in read_.workload_distribution]
    for name, gpu in read_.gpu_info.items():
        if [len(row) for row in gpu.tputs] != shape:
            sentence = f"'gpu_info.{name}.tputs' is not of the shape of 'workload_distribution': {_shape(shape)}"
            yield Fault(("gpu_info", name, "tputs"), sentence)


def _shape(rows: list[int]) -> str:
    return f"{len(rows)} rows of {' or '.join(map(str, sorted(set(rows))))} numbers"


def document_json(problem: Problem) -> dict[str, Any]:
    """The problem as numbers, for the lock and for people who want to solve it elsewhere."""
    return {
        "head_room": problem.head_room,
        "minimum_instances": problem.minimum_instances,
        "most_types": problem.most_types,
        "buckets": [
            {"size": str(bucket), "requests_per_second": bucket.requests_per_second} for bucket in problem.buckets
        ],
        "types": {
            offer.name: {
                "usd_per_hour": offer.usd_per_hour,
                "at_least": offer.at_least,
                "at_most": offer.at_most,
                "throughput": list(offer.throughput),
            }
            for offer in problem.offers
        },
    }
