"""Roll-outs and alarms: shares of capacity, the sum of the waits, what is published for whom.

Limits: TrafficRoutingConfig, RollingUpdatePolicy, BlueGreenUpdatePolicy, AutoRollbackConfig
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeploymentConfig.html). Not single numbers: rollout.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from heavylift.plan import facts
from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule, part, rows, whole

SIZES = {"canary": ("canary_size", 1, 50), "linear": ("step_size", 10, 50), "rolling": ("batch_size", 5, 50)}
"""Strategy → the field of its size, and the least and the most percent that SageMaker takes."""
MOST_ALARMS = 10  # AutoRollbackConfiguration.Alarms


def sizes(data: Data) -> Iterator[Fault]:
    """A canary is at most half, a step 10 to 50 percent, a batch 5 to 50; one instance cannot be split."""
    said, count = part(data, "rollout"), _instances(data)
    strategy = said.get("strategy")
    if not isinstance(strategy, str) or strategy not in SIZES:
        return
    field, least, most = SIZES[strategy]
    path = ("rollout", field)
    if count == 1:
        why = "one instance cannot be split; use all_at_once with 'wait_in_seconds'"
        yield Fault(("rollout", "strategy"), f"'rollout.strategy' {strategy} needs two instances or more: {why}")
    share = _percent(said.get(field), count)
    if share is not None and not least <= share <= most and count != 1:
        sentence = f"'rollout.{field}' must be {least} to {most} percent of the instances; got {shown(said[field])}"
        yield Fault(path, f"{sentence}, {share:g}% of {count}" if isinstance(said[field], int) else sentence)


def waits(data: Data) -> Iterator[Fault]:
    """A deployment's time is more than its waits together, or it can never end."""
    said = part(data, "rollout")
    most, pause = whole(said.get("max_execution_timeout_in_seconds")), whole(said.get("wait_in_seconds", 0))
    if most is None or pause is None:
        return
    field = SIZES.get(str(said.get("strategy")), ("", 0, 0))[0]
    share = _percent(said.get(field), _instances(data))
    steps = 1 if said.get("strategy") in ("all_at_once", "canary") or not share else ceil(100 / share)
    needed = steps * pause + (whole(said.get("termination_wait_in_seconds", 0)) or 0)
    if needed >= most:
        path = ("rollout", "max_execution_timeout_in_seconds")
        yield Fault(path, f"'{'.'.join(path)}' must be more than all waits together, {needed} seconds; got {most}")


def alarms(data: Data) -> Iterator[Fault]:
    """No more than a roll-out can watch, each on a metric that this endpoint publishes."""
    own, further = rows(data, "monitoring", "alarms"), rows(data, "rollout", "alarms")
    if len(own) + len(further) > MOST_ALARMS >= max(len(own), len(further)):
        total = f"{len(own)} of 'monitoring.alarms' and {len(further)} of 'rollout.alarms'"
        yield Fault(("rollout", "alarms"), f"a roll-out watches at most {MOST_ALARMS} alarms; got {total}")
    is_async, fact = data.get("async_inference") is not None, facts.instances().get(str(data.get("instance_type")))
    for index, row in enumerate(own):
        metric: Any = row.get("metric") if isinstance(row, dict) else None
        path = ("monitoring", "alarms", index, "metric")
        if is_async and metric in ("errors_4xx", "errors_5xx", "overhead"):
            yield Fault(path, f"{shown(metric)} is not published for 'async_inference'; use backlog or latency")
        if not is_async and metric == "backlog":
            yield Fault(path, "'backlog' is published for 'async_inference' only")
        if metric in ("gpu", "gpu_memory") and fact is not None and fact.hardware != "gpu":
            yield Fault(path, f"{shown(metric)} is published for GPUs only; {fact.type} has {fact.hardware}")


def _instances(data: Data) -> int | None:
    """How many there are at least."""
    least = whole(part(data, "scaling").get("min"))
    return whole(data.get("initial_instance_count", 1)) if least is None else max(1, least)


def _percent(size: Any, count: int | None) -> float | None:
    if isinstance(size, str) and size.endswith("%") and size[:-1].isdecimal():
        return float(size[:-1])
    number = whole(size)
    return None if number is None or not count else 100 * number / count


RULES: tuple[Rule, ...] = (sizes, waits, alarms)
