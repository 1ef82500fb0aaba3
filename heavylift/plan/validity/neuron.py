"""The degrees that Inferentia and Trainium run, and what they make of a model's heads. Not GPUs.

Sources: AWS Neuron's guides on tensor parallelism and NxD Inference's sharding of grouped-query attention
(https://awsdocs-neuron.readthedocs-hosted.com); Trainium2 with two physical cores for each logical one.
"""

from __future__ import annotations

from heavylift.plan.facts import InstanceFact
from heavylift.plan.model import ModelFacts
from heavylift_runtime.engines.registry import NXD_INFERENCE

DEGREES = {
    ("Inferentia2", 1): (1, 2),
    ("Inferentia2", 6): (1, 2, 4, 8, 12),
    ("Inferentia2", 12): (1, 2, 4, 8, 12, 24),
    ("Trainium1", 1): (1, 2),
    ("Trainium1", 16): (1, 2, 8, 16, 32),
    ("Trainium2", 16): (1, 4, 8, 16, 32, 64),
}
"""By accelerator and their number."""
EXPERT_TILE = 128  # an expert's width on one rank is a multiple of it
MIXTRAL = (8, 16, 32)  # transformers-neuronx
INT8 = ("bloom", "gpt2", "llama", "mistral", "opt")  # transformers-neuronx; NxD Inference's is not called here


def neuron_degrees(fact: InstanceFact) -> tuple[int, ...]:
    """Empty for a type that no current engine runs on (Inferentia, of the first generation)."""
    name = "" if fact.accelerator is None else fact.accelerator.name
    return DEGREES.get((name, fact.accelerators), ())


def neuron_faults(model: ModelFacts, fact: InstanceFact, tp: int, quantization: str = "none") -> list[str]:
    """Heads of the newer library's families are padded, and need not divide; the older one's must."""
    allowed = neuron_degrees(fact)
    if not allowed:
        return [f"{fact.type} has no degree that a current Neuron engine runs; use inf2, trn1 or trn2"]
    faults = []
    if tp not in allowed:
        faults.append(f"tensor_parallel_degree {tp} is none of {fact.type}'s: {', '.join(map(str, allowed))}")
    if model.family not in NXD_INFERENCE and model.heads % tp:
        able = [str(each) for each in allowed if model.heads % each == 0]
        faults.append(
            f"tensor_parallel_degree {tp} does not divide the number of attention heads {model.heads}, and Neuron pads "
            f"none of {model.family}; use {' or '.join(able)}"
        )
    if quantization != "none" and model.family not in INT8:
        faults.append(f"quantization {quantization} is not of {model.family} on Neuron; it has {', '.join(INT8)}")
    if model.family == "mixtral" and tp not in MIXTRAL:
        faults.append(f"tensor_parallel_degree {tp} does not run Mixtral; Neuron has it at 8, 16 and 32")
    elif model.moe and model.expert_ffn % (EXPERT_TILE * tp):
        faults.append(
            f"tensor_parallel_degree {tp} leaves {model.expert_ffn / tp:g} of an expert's width {model.expert_ffn} "
            f"on a rank; Neuron needs a multiple of {EXPERT_TILE}"
        )
    return faults


def neuron_kv_heads(model: ModelFacts, tp: int) -> int:
    """Key heads that the ranks hold together: copies where they divide the degree, else one for each query head."""
    if tp <= model.kv_heads and model.kv_heads % tp == 0:
        return model.kv_heads
    return tp if tp % model.kv_heads == 0 else model.heads


def neuron_cache_factor(model: ModelFacts, tp: int) -> float:
    """How many times the cache of one rank is larger than where its key heads are divided: up to heads / key heads."""
    if model.latent is not None:
        return 1.0
    return neuron_kv_heads(model, tp) / tp / max(model.kv_heads / tp, 1)
