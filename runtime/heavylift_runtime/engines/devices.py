"""Which GPUs a copy of the model sees, as LMI tells each of its workers. Not which of them a rank takes (place.py).

A script of several ranks, or one with option.tensor_parallel_degree written, has a group of GPUs of its own, which are
all that it sees; any other sees all of them and is told the number of one. More copies than groups share them in turn.
Of an engine each of several copies has a group; the only one sees all, and says itself what it lacks.
Source: deepjavalibrary/djl-serving, how its Connection starts a worker (v0.23 to v0.29).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from heavylift_runtime.errors import LoadError

if TYPE_CHECKING:
    from heavylift_runtime.options import Options

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICE = "HEAVYLIFT_DEVICE"
"""The GPU's number that a script is told, among those that it sees; not set: there is none."""
_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_FILES = Path("/dev")


def gpus(environ: Mapping[str, str], files: Path = _FILES) -> list[str]:
    """Those that CUDA_VISIBLE_DEVICES names, up to the first word that is none (CUDA's rule); without that variable,
    NVIDIA's device files of this machine."""
    if (given := environ.get(VISIBLE)) is None:
        return [str(number) for number, _ in enumerate(files.glob("nvidia[0-9]*"))]
    return list(takewhile(_NAME.fullmatch, (name.strip() for name in given.split(","))))


def devices(environ: Mapping[str, str], files: Path = _FILES) -> int:
    """The accelerators of this machine, for `option.tensor_parallel_degree=max`; 1 where there are none."""
    return len(gpus(environ, files)) or len(list(files.glob("neuron[0-9]*"))) or 1


def neuron(files: Path = _FILES) -> bool:
    """This machine has NeuronCores."""
    return any(files.glob("neuron[0-9]*"))


def told(options: Options, copy: int, environ: Mapping[str, str]) -> dict[str, str]:
    """What the processes of a copy find in their environment; LoadError where its group needs more GPUs than there
    are."""
    there, script = gpus(environ), options.engine == "script"
    width = options.tensor_parallel_degree * options.pipeline_parallel_degree
    if not there or (not script and (options.workers == 1 or "device_map" in options.properties or width > len(there))):
        return {}
    if script and not options.mpi_mode and "tensor_parallel_degree" not in options.properties:
        return {DEVICE: str(copy % len(there))}
    if width > len(there):
        raise LoadError(
            f"option.tensor_parallel_degree={options.tensor_parallel_degree} times option.pipeline_parallel_degree="
            f"{options.pipeline_parallel_degree} needs {width} GPUs: this machine has {len(there)}"
        )
    first = copy % (len(there) // width) * width
    return {VISIBLE: ",".join(there[first : first + width]), DEVICE: "0"}


def narrowed(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """For a model of one rank that a script starts in a process of its own: it sees the GPU that the script was told,
    unless `option.device_map` places it on several."""
    there, number = gpus(environ), environ.get(DEVICE)
    if number is None or not there or options.ranks > 1 or "device_map" in options.properties:
        return {}
    return {VISIBLE: there[int(number)], DEVICE: "0"}
