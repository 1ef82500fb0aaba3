"""What CloudWatch tells of an endpoint's minutes: SageMaker's metrics of each variant, asked and summed.

Not what is made of it (attribution.py). SageMaker puts, in microseconds and once a minute, `ModelLatency` and
`OverheadLatency` of each variant, and of streamed replies `FirstChunkModelLatency` and `FirstChunkOverheadLatency`
(Amazon SageMaker developer guide, "Amazon SageMaker AI metrics in Amazon CloudWatch").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import Place, described

logger = logging.getLogger(__name__)

Subject = Mapping[str, str]
"""Of what a metric is: its dimensions."""

NAMESPACE = "AWS/SageMaker"
KINDS = ("ModelLatency", "OverheadLatency")
MINUTE = 60


def metrics_of(place: Place, benchmark: Benchmark) -> Callable[[datetime, datetime], Overhead | None]:
    """Asks what CloudWatch knows of a place in the minutes between two moments. None for nothing, as in the first
    minutes after a run, of an asynchronous endpoint, which has no overhead of its own, or where it may not be asked,
    which is logged: it decides over nothing."""

    def told(begin: datetime, end: datetime) -> Overhead | None:
        if benchmark.asynchronous:
            return None
        try:
            return _told(_subjects(place, benchmark), benchmark.stream, begin, end)
        except (BotoCoreError, ClientError):
            logger.exception("CloudWatch's metrics of %s could not be read", place)
            return None

    return told


def _told(subjects: Sequence[Subject], stream: bool, begin: datetime, end: datetime) -> Overhead | None:
    queries = [
        _query(f"v{number}{kind[0].lower()}{stat[:2].lower()}", subject, _name(kind, stream), stat)
        for number, subject in enumerate(subjects)
        for kind in KINDS
        for stat in ("Sum", "SampleCount")
    ]
    if not queries:
        return None
    first, last = (moment.replace(second=0, microsecond=0) for moment in (begin, end))
    found = {query["Id"]: 0.0 for query in queries}
    pages = boto3.client("cloudwatch").get_paginator("get_metric_data")
    minutes = {"StartTime": first, "EndTime": last + timedelta(seconds=MINUTE)}
    for page in pages.paginate(MetricDataQueries=queries, **minutes):
        for result in page["MetricDataResults"]:
            found[result["Id"]] += sum(result["Values"])
    there = [number for number in range(len(subjects)) if found[f"v{number}msa"] and found[f"v{number}osa"]]
    return Overhead.of([_mean(found, number, first_chunk=stream) for number in there])


def _subjects(place: Place, benchmark: Benchmark) -> list[Subject]:
    """An inference component has metrics of its own; else each variant that answers."""
    if benchmark.inference_component is not None:
        return [{"InferenceComponentName": benchmark.inference_component}]
    variants = [place.variant]
    if place.variant is None:
        found = described(place.endpoint) or {}
        variants = [variant["VariantName"] for variant in found.get("ProductionVariants", [])]
    return [{"EndpointName": place.endpoint, "VariantName": str(variant)} for variant in variants]


def _mean(found: dict[str, float], number: int, *, first_chunk: bool) -> Overhead:
    """Of one variant: sums of microseconds over their counts."""
    model, own = (found[f"v{number}{kind}su"] / found[f"v{number}{kind}sa"] / 1000 for kind in "mo")
    return Overhead(round(found[f"v{number}msa"]), model, own, first_chunk)


def _name(kind: str, stream: bool) -> str:
    return f"FirstChunk{kind}" if stream else kind


def _query(id: str, subject: Subject, metric: str, stat: str) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in subject.items()]
    asked = {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": id, "MetricStat": {"Metric": asked, "Period": MINUTE, "Stat": stat}}
