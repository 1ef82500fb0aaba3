"""The recorded interface of AWS's Neuron SDK, importable for a while (tests/recorded/README.md). Not the SDK."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
_NAMES = ("transformers_neuronx", "neuronx_distributed_inference", "recorded_cores")
_VARIABLES = ("NEURON_COMPILE_CACHE_URL", "NEURON_CC_FLAGS", "NEURON_RT_NUM_CORES", "NEURON_PLATFORM_TARGET_OVERRIDE")


@contextmanager
def recorded_sdk() -> Iterator[None]:
    """In this process, which afterwards is as it was, also in what the engine says to the SDK by the environment."""
    before = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    sys.path.insert(0, str(RECORDED))
    try:
        yield
    finally:
        sys.path.remove(str(RECORDED))
        for name in [each for each in sys.modules if each.partition(".")[0] in _NAMES]:
            del sys.modules[name]
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


def with_recorded_sdk(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that imports it."""
    paths = [str(RECORDED), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**(environ or {}), "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
