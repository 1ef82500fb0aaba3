"""From a demand to the search: what was planned byte by byte, what else there is to look at, and the best of it.

Not the search, and not the bytes. The best is among the options that the model file allows; the others are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.demand import Demand
from heavylift.plan.facts import InstanceFact
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.search import Candidate, Found, Option, Planned, Wanted, search
from heavylift.plan.traffic import traffic_of
from heavylift.plan.validity import Split
from heavylift_runtime.engines.registry import ENGINES


def option_of(demand: Demand, fact: InstanceFact, degree: int) -> Option:
    """What the demand's own engine does on a type."""
    return Option(
        fact, demand.engine.name, demand.dtype, demand.spec.quantization, Split(degree), demand.spec.serving.workers
    )


def explore(demand: Demand, tried: Iterable[Planned], calibrations: Sequence[Calibration], *, wide: bool) -> Found:
    """All options: those tried already and, if `wide`, those of the engines that this version knows and cannot run."""
    spec, weights = demand.spec, demand.lock.model.weights
    wanted = Wanted(
        dtype=demand.dtype,
        quantization=spec.quantization,
        instances=spec.initial_instance_count,
        copies=spec.serving.workers,
        bytes=weights.bytes,
        subject=weights.digest,
    )
    given = None if spec.instance_type == "auto" else [facts.instances()[spec.instance_type]]
    others = [name for name in ENGINES if wide and spec.engine == "auto" and name not in (demand.engine.name, "script")]
    traffic = traffic_of(spec, demand.new_tokens, demand.prompt_tokens, streams=demand.engine.streams)
    return search(_model(demand), wanted, traffic, tried, calibrations=calibrations, engines=others, types=given)


def best_of(demand: Demand, found: Found) -> tuple[Candidate, str]:
    """The best option that the model file allows, on the preferred hardware where no target decides.

    Raises InputError where everything that has room for the model is too little for the load.
    """
    own = [each for each in found.candidates if each.option.engine == demand.engine.name]
    allowed = [each for each in own if all(ask.startswith("initial_instance_count") for ask in each.asks)]
    if not allowed:
        little = [each for each in found.rejected if each.option.engine == demand.engine.name]
        sentences = [
            f"{each.option}: {'; '.join(each.reasons)}" for each in little if "the load takes" in each.reasons[0]
        ]
        raise InputError(f"no instance type is enough for the load: {sentences[-1]}; ask 'traffic' for less")
    estimated = all(each.estimate is not None for each in allowed)
    if not (estimated and found.targets.any):
        preferred = [each for name in demand.hardware for each in allowed if each.option.fact.hardware == name]
        allowed = [each for each in preferred if each.option.fact.hardware == preferred[0].option.fact.hardware]
    best = found.best(allowed)
    assert best is not None, "something fits"
    return best


def _model(demand: Demand) -> ModelFacts | None:
    """None for a script, or an architecture that the plan cannot read: its size is all that is known."""
    config = demand.lock.model.config
    if config is None or demand.engine.name == "script":
        return None
    try:
        return ModelFacts.of(config, parameters=demand.lock.model.parameters)
    except InputError:
        return None
