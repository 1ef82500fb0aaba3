"""Which machine image runs which container: CUDA of the image, driver of the AMI, family of the instance type.

Not where a type is hosted: heavylift.plan.hosted.

Explicit pairs and no inequality: images of CUDA 13.0 end without a log on older drivers (GitHub,
aws/sagemaker-python-sdk #6281), and one of CUDA 12.9 did so on the newer AMI (aws/deep-learning-containers #6187).
Not tried here: no GPU was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from heavylift.plan.facts import InstanceFact, instances
from heavylift.plan.images import BLACKWELL_CUDA, LAST_DRIVER, Ami, amis

OLD, OLD_PLAIN, MIDDLE, NEW = (
    "al2-ami-sagemaker-inference-gpu-2",
    "al2-ami-sagemaker-inference-gpu-2-1",
    "al2-ami-sagemaker-inference-gpu-3-1",
    "al2023-ami-sagemaker-inference-gpu-4-1",
)
RUNS: dict[str, tuple[str, ...]] = {
    "11.3": (OLD, OLD_PLAIN, MIDDLE), "11.6": (OLD, OLD_PLAIN, MIDDLE), "11.7": (OLD, OLD_PLAIN, MIDDLE),
    "11.8": (OLD, OLD_PLAIN, MIDDLE), "12.1": (OLD, OLD_PLAIN, MIDDLE), "12.2": (OLD, OLD_PLAIN, MIDDLE),
    "12.4": (MIDDLE, NEW), "12.6": (MIDDLE, NEW), "12.8": (MIDDLE, NEW), "12.9": (MIDDLE,), "13.0": (NEW,),
}  # fmt: skip
"""The AMIs that run an image of a CUDA, the one to choose first."""
BY_DEFAULT = ("11.3", "11.6", "11.7", "11.8", "12.1", "12.2")
"""What SageMaker's own choice of an AMI runs."""
FIRST_DRIVER = {"blackwell": 570.0}
"""Generations that older drivers do not know (NVIDIA, "Data center driver branches": R570)."""
_CUDA = re.compile(r"cu(1[0-9])([0-9])(?![0-9])")


def cuda_of(tag: str) -> str | None:
    """The CUDA that a tag of AWS's containers names, such as 12.8 for cu128; None where it names none."""
    found = _CUDA.search(tag)
    return None if found is None else f"{found[1]}.{found[2]}"


def ami_for(cuda: str, type_: str) -> str | None:
    """The AMI to choose for an image on an instance type; None: SageMaker's own."""
    fact = instances().get(type_)
    if fact is None or fact.hardware != "gpu" or cuda in BY_DEFAULT or cuda not in RUNS:
        return None
    blackwell = fact.accelerator is not None and fact.accelerator.generation == "blackwell"
    return NEW if blackwell and NEW in RUNS[cuda] else RUNS[cuda][0]


def faults(hardware: str | None, cuda: str | None, types: tuple[str, ...], ami: str | None) -> Iterator[str]:
    """What of image, AMI and instance types does not go together, as far as it is known; `hardware` is the image's."""
    for type_ in types:
        fact = instances().get(type_)
        if fact is None:
            continue
        if hardware is not None and hardware != fact.hardware:
            yield f"the image is for {hardware}, and {type_} is {fact.hardware}: choose another image or instance type"
        known = next((each for each in amis() if each.version == ami), None)
        if known is not None and known.hardware != fact.hardware:
            yield f"'{ami}' is for {known.hardware}, and {type_} is {fact.hardware}"
        yield from _generation_faults(fact, cuda, known)
        if fact.hardware != "gpu" or cuda is None or cuda not in RUNS:
            continue
        allowed = RUNS[cuda]
        if ami is None and cuda not in BY_DEFAULT:
            yield f"an image of CUDA {cuda} needs 'inference_ami_version' on {type_}: use {' or '.join(allowed)}"
        elif ami is not None and ami not in allowed:
            yield f"'{ami}' does not run an image of CUDA {cuda}: use {' or '.join(allowed)}"


def _generation_faults(fact: InstanceFact, cuda: str | None, ami: Ami | None) -> Iterator[str]:
    """What the GPU's generation takes of the AMI's driver and of the image's CUDA."""
    if fact.accelerator is None or fact.hardware != "gpu":
        return
    name, generation = fact.accelerator.name, fact.accelerator.generation
    if ami is not None and ami.hardware == "gpu":
        first, last = FIRST_DRIVER.get(generation, 0.0), LAST_DRIVER.get(generation, float("inf"))
        if not first <= ami.driver <= last:
            able = [each.version for each in amis() if each.hardware == "gpu" and first <= each.driver <= last]
            mend = f"use {' or '.join(able)}" if able else "leave 'inference_ami_version' out"
            yield f"'{ami.version}' has driver {ami.driver:g}, which does not know {name} of {fact.type}: {mend}"
    if cuda is not None and generation == "blackwell" and float(cuda) < BLACKWELL_CUDA:
        newer = f"use one of CUDA {BLACKWELL_CUDA:g} or newer"
        yield f"an image of CUDA {cuda} has nothing for {name} of {fact.type}: {newer}"
