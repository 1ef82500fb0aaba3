"""Scaling and schedules. Not the bounds of single numbers: heavylift/spec/scaling.py.

Limits: SageMaker's guide (https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling.html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heavylift.spec.fault import Fault, Path, dotted, shown
from heavylift.spec.rules.read import Data, Rule, part, rows, whole
from heavylift.spec.rules.schedules import schedule_faults


def scaling(data: Data) -> Iterator[Fault]:
    """The file's own scaling, and each component's."""
    is_async, components = data.get("async_inference") is not None, data.get("inference_components") is not None
    if isinstance(data.get("scaling"), dict):
        said = part(data, "scaling")
        yield from _scaling(said, ("scaling",), zero=is_async or components, is_async=is_async)
        if not components:
            yield from _initial(data, said)
    for index, row in enumerate(rows(data, "inference_components")):
        if isinstance(row, dict) and isinstance(row.get("scaling"), dict):
            path = ("inference_components", index, "scaling")
            yield from _scaling(row["scaling"], path, zero=True, is_async=False)


def _scaling(said: Data, path: Path, *, zero: bool, is_async: bool) -> Iterator[Fault]:
    yield from _bounds(said, path)
    if whole(said.get("min")) == 0 and not zero:
        why = "an endpoint scales to zero only with 'inference_components' or 'async_inference'"
        yield Fault((*path, "min"), f"'{dotted((*path, 'min'))}' must be at least 1: {why}; got 0")
    metric, where = said.get("metric", "auto"), (*path, "metric")
    if metric == "backlog" and not is_async:
        yield Fault(where, f"'{dotted(where)}' backlog is counted for 'async_inference' only; use concurrency")
    if metric in ("concurrency", "invocations") and is_async:
        yield Fault(where, f"'{dotted(where)}' {metric} is not published for 'async_inference'; use backlog")
    if metric == "invocations" and said.get("target", "auto") == "auto":
        yield Fault(path, f"'{dotted((*path, 'target'))}' must be given for invocations: requests a minute")
    names: set[object] = set()
    least, most = _ever(said, "min", min), _ever(said, "max", max)
    for index, row in enumerate(rows(said, "schedules")):
        here = (*path, "schedules", index)
        if not isinstance(row, dict):
            continue
        if row.get("min") is None and row.get("max") is None:
            yield Fault(here, f"'{dotted(here)}' needs 'min' or 'max', or both: what changes then")
        yield from schedule_faults(row, here)
        yield from _bounds(row, here)
        low, high = whole(row.get("min")), whole(row.get("max"))
        if row.get("max") is None and low is not None and most is not None and low > most:
            sentence = f"'{dotted((*here, 'min'))}' must be at most 'max', which is never more than {most}; got {low}"
            yield Fault((*here, "min"), f"{sentence}; say 'max', too")
        if row.get("min") is None and high is not None and least is not None and high < least:
            sentence = (
                f"'{dotted((*here, 'max'))}' must be at least 'min', which is never less than {least}; got {high}"
            )
            yield Fault((*here, "max"), f"{sentence}; say 'min', too")
        if whole(row.get("min")) == 0 and not zero:
            yield Fault((*here, "min"), f"'{dotted((*here, 'min'))}' must be at least 1, as 'scaling.min'; got 0")
        if isinstance(row.get("name"), str) and row["name"] in names:
            yield Fault((*here, "name"), f"a second schedule {shown(row['name'])}; give each a name of its own")
        names.add(str(row.get("name")))
    predictive = part(said, "predictive")
    if predictive.get("max_capacity_buffer_percent") is not None and predictive.get("above_max") != "increase":
        key = (*path, "predictive", "max_capacity_buffer_percent")
        yield Fault(key, f"'{dotted(key)}' belongs to 'above_max: increase'", at_key=True)


def _ever(said: Data, key: str, of: Callable[[list[int]], int]) -> int | None:
    """The least `min`, or the most `max`, of the bounds and their schedules."""
    given = [whole(row.get(key)) for row in (said, *rows(said, "schedules")) if isinstance(row, dict)]
    found = [each for each in given if each is not None]
    return of(found) if found else None


def _bounds(said: Data, path: Path) -> Iterator[Fault]:
    least, most = whole(said.get("min")), whole(said.get("max"))
    if least is not None and most is not None and least > most:
        yield Fault((*path, "min"), f"'{dotted((*path, 'min'))}' must be at most 'max' ({most}); got {least}")


def _initial(data: Data, said: Data) -> Iterator[Fault]:
    count, least, most = whole(data.get("initial_instance_count", 1)), whole(said.get("min")), whole(said.get("max"))
    if count is not None and least is not None and most is not None and not min(least, most) <= count <= most:
        at = ("initial_instance_count",) if "initial_instance_count" in data else ("scaling",)
        yield Fault(at, f"'initial_instance_count' must be from 'scaling.min' to 'scaling.max'; got {count}")
    name = data.get("instance_type")
    if isinstance(name, str) and name.startswith("ml.t"):
        yield Fault(("scaling",), f"'scaling' needs an instance type that is not burstable; got {name}", at_key=True)


def managed(data: Data) -> Iterator[Fault]:
    """Managed instance scaling goes with inference components."""
    said: Any = data.get("managed_instances")
    components = [row for row in rows(data, "inference_components") if isinstance(row, dict)]
    if said is None and components:
        shared = part(data, "scaling")
        for bounds in [part(row, "scaling") or shared for row in components]:
            if _ever(bounds, "min", min) == 0:
                sentence = (
                    "'managed_instances' is missing: where all copies are gone, their instances would stay and cost"
                )
                yield Fault(("inference_components",), f"{sentence}; say {{min: 0, max: …}}", at_key=True)
                break
    if not isinstance(said, dict):
        return
    if data.get("inference_components") is None:
        sentence = "'managed_instances' belongs to 'inference_components'; without them use 'scaling'"
        yield Fault(("managed_instances",), sentence, at_key=True)
    yield from _bounds(said, ("managed_instances",))


RULES: tuple[Rule, ...] = (scaling, managed)
