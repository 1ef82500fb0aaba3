"""The keys of serving.properties that a plan asks for, in order.

Not their text: that is heavylift.serving. Keys and their spelling are LMI's (djl-serving v0.23, lmi configurations).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.demand import Demand
from heavylift.serving.prompt import prompt_options
from heavylift.serving.render import render_properties
from heavylift_runtime.engines.registry import encoder_task
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.options import Options

Properties = tuple[tuple[str, str], ...]


def properties_of(demand: Demand, degree: int) -> Properties:
    """Raises InputError for options that the runtime would refuse."""
    spec, engine = demand.spec, demand.engine
    own: list[tuple[str, str]] = [("engine", engine.engine_property)]
    if engine.entry_point is not None:
        own.append(("option.entryPoint", engine.entry_point))
    config = demand.lock.model.config or {}
    divided = engine.name == "script" or (engine.splits(config.get("model_type")) and "device_map" not in spec.options)
    if engine.name == "accelerate":
        own += _accelerate(config, spec.options, placed=degree > 1 and not divided)
    own += [
        ("option.dtype", demand.dtype),
        ("option.tensor_parallel_degree", str(degree if divided else 1)),
        ("option.pipeline_parallel_degree", str(spec.pipeline_parallel_degree)),
    ]
    if spec.quantization != "none":
        own.append(("option.quantize", spec.quantization))
    options = {"max_new_tokens": demand.new_tokens, **prompt_options(spec.prompt), **_compiled(demand), **spec.options}
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


def _accelerate(config: Mapping[str, Any], options: Mapping[str, Any], *, placed: bool) -> Iterator[tuple[str, str]]:
    """What it must be told: the task of a model that writes no text; to place layers from its one process."""
    if "task" not in options and (task := encoder_task(config)) is not None:
        yield "option.task", task
    if placed and "device_map" not in options:
        yield "option.device_map", "auto"


def _compiled(demand: Demand) -> dict[str, str]:
    """What is compiled ahead is asked for in the same shapes when it is served; vLLM compiles as it loads.

    vLLM's words: https://docs.vllm.ai/en/latest/api/vllm/config/compilation/. Raises InputError.
    """
    asked, batch = demand.spec.compile, demand.spec.serving.batch_size
    if asked is None:
        return {}
    engine = {"torch": "vllm", "neuron": "neuronx"}[asked.backend]
    if demand.engine.name != engine:
        raise InputError(f"'compile.backend' {asked.backend} is engine {engine}'s; the engine is {demand.engine.name}")
    sizes = sorted(asked.batch_sizes or (batch,))
    if asked.backend == "torch":
        graphs = {"cudagraph_mode": "FULL_AND_PIECEWISE", "cudagraph_capture_sizes": sizes}
        config = graphs if asked.cuda_graphs else {"cudagraph_mode": "NONE", "compile_sizes": sizes}
        return {"compilation_config": json.dumps(config, separators=(",", ":"))}
    if sizes != [batch]:
        got = ", ".join(map(str, sizes))
        raise InputError(
            f"'compile.batch_sizes' of neuron is the batch that is served: got {got}, and serving.batch_size {batch}"
        )
    lengths = asked.sequence_lengths
    shapes = {"max_rolling_batch_size": str(batch)}
    return shapes if lengths is None else {**shapes, "n_positions": ",".join(map(str, sorted(lengths)))}


def _text(value: bool | int | float | str) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
