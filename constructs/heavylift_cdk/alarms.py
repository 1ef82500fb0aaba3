"""Alarms: what of an endpoint wakes somebody, and takes a roll-out back; in the units that people say.

Not the benchmark's verdict: slo_alarm.py. CloudWatch has latencies in microseconds and sums GPUs over the devices; here
are milliseconds and percent of one device. An asynchronous endpoint publishes neither invocations nor overhead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from heavylift.plan.facts import instances
from heavylift_cdk.bounds import between, refuse
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.variant import Variant

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_sns as sns

Statistic = Literal["latency", "overhead", "errors_4xx", "errors_5xx", "gpu", "gpu_memory", "cpu", "memory", "disk",
                    "backlog", "cost"]  # fmt: skip
UTILIZATIONS = {"gpu": "GPU", "gpu_memory": "GPUMemory", "cpu": "CPU", "memory": "Memory", "disk": "Disk"}
NO_DATA = {
    "ok": cloudwatch.TreatMissingData.NOT_BREACHING,
    "alarm": cloudwatch.TreatMissingData.BREACHING,
    "keep": cloudwatch.TreatMissingData.IGNORE,
}


@dataclass(frozen=True)
class Limit:
    """Make one with a named constructor. In ALARM when it is exceeded for so many minutes, one after the other."""

    of: Statistic
    most: float
    for_minutes: int = 3
    no_data: Literal["ok", "alarm", "keep"] = "ok"
    percentile: float = 99
    price: float | None = None

    @classmethod
    def latency(cls, *, max_ms: float, percentile: float = 99, for_minutes: int = 3) -> Limit:
        """The container's own time for a request."""
        return cls("latency", max_ms, for_minutes, percentile=percentile)

    @classmethod
    def overhead(cls, *, max_ms: float, percentile: float = 99, for_minutes: int = 3) -> Limit:
        """SageMaker's own time for a request."""
        return cls("overhead", max_ms, for_minutes, percentile=percentile)

    @classmethod
    def errors(cls, status: Literal["4xx", "5xx"], *, max_share: float, for_minutes: int = 3) -> Limit:
        """Replies of a status, as a share of all requests."""
        return cls("errors_4xx" if status == "4xx" else "errors_5xx", max_share, for_minutes)

    @classmethod
    def utilization(
        cls, what: Literal["gpu", "gpu_memory", "cpu", "memory", "disk"], *, max_percent: float, for_minutes: int = 3
    ) -> Limit:
        """The fullest instance, in percent of one device, or of one processor."""
        return cls(what, max_percent, for_minutes)

    @classmethod
    def backlog(cls, *, most: float, for_minutes: int = 3) -> Limit:
        """Asynchronous requests that wait, for each instance."""
        return cls("backlog", most, for_minutes)

    @classmethod
    def cost(cls, *, max_usd_per_hour: float, price_usd_per_hour: float, for_minutes: int = 15) -> Limit:
        """What the instances that run cost in an hour, at a price for each."""
        return cls("cost", max_usd_per_hour, for_minutes, price=price_usd_per_hour)

    def faults(self) -> Iterator[str]:
        """What cannot be an alarm."""
        yield from between("for_minutes", self.for_minutes, 1, 1440)
        yield from between("percentile", self.percentile, 0, 100)
        if self.most < 0 or (self.of.startswith("errors") and self.most > 1):
            yield f"the limit of {self.of} is out of its range: got {self.most:g}"


def defaults(*, max_ms: float | None = None) -> tuple[Limit, ...]:
    """What every endpoint should have: one of a hundred requests fails, or takes longer than `max_ms`."""
    slow = () if max_ms is None else (Limit.latency(max_ms=max_ms),)
    return (Limit.errors("5xx", max_share=0.01), *slow)


class Alarms(Construct):
    """An alarm for each limit and each variant; `names` is what a Rollout takes. Raises InputError.

    They name the endpoint, which must have a given name, and do not wait for it: an endpoint may refer to its alarms.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: ModelEndpoint,
        limits: Sequence[Limit],
        notify: Sequence[sns.ITopic] = (),
    ) -> None:
        super().__init__(scope, id)
        refuse(_faults(endpoint, limits))
        self.alarms = [
            self._alarm(f"{_id(limit)}{number or ''}", endpoint, variant, limit)
            for number, variant in enumerate(endpoint.variants)
            for limit in limits
        ]
        if notify:
            from aws_cdk import aws_cloudwatch_actions as actions  # it imports half of the CDK

            for alarm in self.alarms:
                alarm.add_alarm_action(*(actions.SnsAction(topic) for topic in notify))

    @property
    def names(self) -> tuple[str, ...]:
        """Their names in CloudWatch."""
        return tuple(alarm.alarm_name for alarm in self.alarms)

    def _alarm(self, id: str, endpoint: ModelEndpoint, variant: Variant, limit: Limit) -> cloudwatch.Alarm:
        metric, threshold = _measured(endpoint, variant, limit)
        return cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=threshold,
            evaluation_periods=limit.for_minutes,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=NO_DATA[limit.no_data],
            alarm_description=f"{limit.of} of {variant.name} is above {limit.most:g}",
        )


def _measured(endpoint: ModelEndpoint, variant: Variant, limit: Limit) -> tuple[cloudwatch.Metric, float]:
    """The metric and, in its own unit, the threshold."""
    name, minute = variant.name, Duration.minutes(1)
    match limit.of:
        case "latency":
            slow = endpoint.metric_model_latency(name, percentile=limit.percentile)
            return slow.with_(period=minute), limit.most * 1000
        case "overhead":
            slow = endpoint.metric_overhead_latency(name, percentile=limit.percentile)
            return slow.with_(period=minute), limit.most * 1000
        case "errors_4xx" | "errors_5xx":
            # 1 for each request that failed, 0 for the others: their mean is the share.
            failed = "Invocation4XXErrors" if limit.of == "errors_4xx" else "Invocation5XXErrors"
            share = endpoint.metric(failed, variant=name, statistic=cloudwatch.Stats.AVERAGE, period=minute)
            return share, limit.most
        case "backlog":
            return endpoint.metric_backlog().with_(period=minute), limit.most
        case "cost":
            assert limit.price is not None, "made by Limit.cost"
            return endpoint.metric_instances(name), limit.most / limit.price
    used = endpoint.metric_utilization(UTILIZATIONS[limit.of], name).with_(period=minute)
    return used, limit.most * summed_over(limit.of, variant.capacity.types)


def _faults(endpoint: ModelEndpoint, limits: Sequence[Limit]) -> Iterator[str]:
    for limit in limits:
        yield from limit.faults()
        if endpoint.asynchronous is not None and limit.of in ("overhead", "errors_4xx", "errors_5xx"):
            yield f"an asynchronous endpoint does not publish what '{limit.of}' needs: use backlog or latency"
        if endpoint.asynchronous is None and limit.of == "backlog":
            yield "a backlog is of asynchronous endpoints"
    ids = [_id(limit) for limit in limits]
    if len(set(ids)) < len(ids):
        yield f"each limit is given once: got {', '.join(ids)}"


def _id(limit: Limit) -> str:
    """LatencyP99, Errors5xx, GpuMemory …"""
    at = f"P{limit.percentile:g}".replace(".", "_") if limit.of in ("latency", "overhead") else ""
    return "".join(part.capitalize() for part in limit.of.split("_")) + at


def summed_over(what: str, types: tuple[str, ...]) -> int:
    """How many devices a utilization is summed over: the fewest of the types that may run, 1 where unknown."""
    facts = [instances()[each] for each in types if each in instances()]
    match what:
        case "gpu" | "gpu_memory":
            return max(1, min((fact.accelerators for fact in facts), default=1))
        case "cpu":
            return max(1, min((fact.vcpus for fact in facts), default=1))
    return 1
