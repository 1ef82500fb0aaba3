"""InferenceAmiVersion: the machine image whose driver runs the container's CUDA. Not the container's own image.

A container of CUDA 12.6 needs a driver that brings at least that (NVIDIA, "CUDA Compatibility"); newer drivers run
older containers. SageMaker's default image has an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from heavylift.plan.facts import InstanceFact
from heavylift.plan.facts.table import number, rows
from heavylift_runtime.engines.registry import Capabilities

RUNTIME_CUDA = 12.6  # container/Dockerfile.gpu's base image
NEURON_SDKS = {
    "2.26.1": "public.ecr.aws/neuron/pytorch-inference-neuronx:2.8.0-neuronx-py311-sdk2.26.1-ubuntu22.04",
    "2.27.1": "public.ecr.aws/neuron/pytorch-inference-neuronx:2.9.0-neuronx-py312-sdk2.27.1-ubuntu24.04",
}
"""AWS's images with Python 3.11 or newer, which ours are built on, by SDK; the first is container/Dockerfile.neuron's
(https://github.com/aws-neuron/deep-learning-containers). LMI's own Neuron containers have Python 3.10."""
NEURON_SDK = next(iter(NEURON_SDKS))
BLACKWELL_CUDA = 12.8  # the first that compiles for its GPUs
LAST_DRIVER = {"kepler": 470.0}
"""Generations that newer drivers have dropped, and the last that ran them (NVIDIA, "Data center driver branches")."""


@dataclass(frozen=True)
class Ami:
    """One InferenceAmiVersion; `cuda` None on Neuron."""

    version: str
    hardware: str
    driver: float
    cuda: float | None


@cache
def amis() -> tuple[Ami, ...]:
    """All, the oldest first."""
    return tuple(
        Ami(row["version"], row["hardware"], float(row["driver"]), number(row["cuda"])) for row in rows("amis.csv")
    )


def ami_for(fact: InstanceFact, cuda: float = RUNTIME_CUDA) -> tuple[str | None, str]:
    """The oldest that serves, and why; None: SageMaker's own choice."""
    accelerator = fact.accelerator
    if accelerator is None:
        return None, "a processor needs no driver"
    needed = max(cuda, BLACKWELL_CUDA) if accelerator.generation == "blackwell" else cuda
    for ami in amis():
        if ami.hardware != fact.hardware or ami.driver > LAST_DRIVER.get(accelerator.generation, float("inf")):
            continue
        if ami.cuda is None:
            return ami.version, f"Neuron driver {ami.driver:g}"
        if ami.cuda >= needed:
            for_what = f"CUDA {needed:g} of the container on {accelerator.name}"
            return ami.version, f"driver {ami.driver:g} brings CUDA {ami.cuda:.1f}, for {for_what}"
    return None, f"no image has a driver for {accelerator.name}"


def hardware_of(engine: Capabilities, dlc: str | None) -> tuple[str, ...]:
    """An engine's hardware in our own image; one of AWS's containers (`dlc`, its framework) brings an engine of its
    own, and has one hardware."""
    if dlc is None:
        return engine.hardware
    return ("neuron",) if dlc == "neuronx" else ("gpu",)
