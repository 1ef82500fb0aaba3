"""The keys of serving.properties that a plan asks for, in order.

Not their text: that is heavylift.serving. Keys and their spelling are LMI's (djl-serving v0.23, lmi configurations).
"""

from __future__ import annotations

from heavylift.errors import InputError
from heavylift.plan.demand import Demand
from heavylift.serving.prompt import prompt_options
from heavylift.serving.render import render_properties
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.options import Options

Properties = tuple[tuple[str, str], ...]


def properties_of(demand: Demand, degree: int) -> Properties:
    """Raises InputError for options that the runtime would refuse."""
    spec, engine = demand.spec, demand.engine
    own: list[tuple[str, str]] = [("engine", engine.engine_property)]
    if engine.entry_point is not None:
        own.append(("option.entryPoint", engine.entry_point))
    own += [
        ("option.dtype", demand.dtype),
        ("option.tensor_parallel_degree", str(degree)),
        ("option.pipeline_parallel_degree", str(spec.pipeline_parallel_degree)),
    ]
    if spec.quantization != "none":
        own.append(("option.quantize", spec.quantization))
    options = {"max_new_tokens": demand.new_tokens, **prompt_options(spec.prompt), **spec.options}
    own += [(f"option.{key}", _text(value)) for key, value in sorted(options.items())]
    serving = spec.serving
    own += [
        ("batch_size", str(serving.batch_size)),
        ("max_batch_delay", str(serving.max_batch_delay)),
        ("job_queue_size", str(serving.job_queue_size)),
        ("minWorkers", str(serving.workers)),
        ("maxWorkers", str(serving.workers)),
    ]
    try:
        Options.parse(render_properties(own), {})
    except OptionsError as error:
        raise InputError(error.faults) from error
    return tuple(own)


def _text(value: bool | int | float | str) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
