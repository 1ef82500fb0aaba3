"""Over how many ranks and stages a model can be split, by engine and quantization. Not which split is best.

vLLM's rules are those its layers assert (vllm/model_executor/layers/linear.py, vocab_parallel_embedding.py) and the
issues that users met them in; Neuron's are neuron.py's; ours agree with the family's table of weights, which decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heavylift.plan.facts import InstanceFact
from heavylift.plan.model import ModelFacts
from heavylift.plan.validity.neuron import neuron_degrees, neuron_faults
from heavylift_runtime.engines.registry import ENGINES

DEGREES = (1, 2, 4, 8, 16)
VOCABULARY_PADDING = 64  # vLLM's words are padded to a multiple of it
MARLIN_INPUTS = 128  # of a tile of its kernel for 4 bits
BLOCK = 128  # of FP8 weights with a scale for each block
FOUR_BITS = ("awq", "gptq")
OLDEST_VLLM = 7.5  # compute capability that current wheels are built for


@dataclass(frozen=True, order=True)
class Split:
    """Ranks and stages of one copy."""

    tp: int
    pp: int = 1

    @property
    def devices(self) -> int:
        """That one copy takes."""
        return self.tp * self.pp


def splits(
    engine: str, model: ModelFacts, fact: InstanceFact, quantization: str = "none"
) -> tuple[list[Split], dict[Split, list[str]]]:
    """Those that run, fewest devices first, and for all others the reasons."""
    valid, refused = [], {}
    for split in sorted(_candidates(engine, fact), key=lambda each: (each.devices, each.pp)):
        faults = degree_faults(engine, model, split, fact, quantization)
        if faults:
            refused[split] = faults
        else:
            valid.append(split)
    return valid, refused


def degree_faults(
    engine: str,
    model: ModelFacts,
    split: Split,
    fact: InstanceFact,
    quantization: str = "none",
) -> list[str]:
    """Every reason against one split on one type."""
    row = ENGINES[engine]
    faults = []
    if fact.accelerator is not None and split.devices > fact.devices:
        faults.append(
            f"{fact.type} has {fact.devices} {fact.accelerator.name} devices; one copy at degree "
            f"{split.tp} · {split.pp} takes {split.devices}, and never spans instances"
        )
    if split.tp > 1 and not row.splits(model.family):
        whose = f" of {model.family}" if row.tensor_parallel else ""
        faults.append(f"engine {engine} has no tensor parallelism{whose}; use tensor_parallel_degree 1")
    if split.pp > 1:
        faults += _stage_faults(engine, model, split.pp)
    if fact.hardware == "neuron":
        return faults + neuron_faults(model, fact, split.tp, quantization)
    faults += engine_faults(engine, model, split.tp, quantization)
    match engine:
        case "vllm":
            capability = None if fact.accelerator is None else fact.accelerator.capability
            if capability is not None and capability < OLDEST_VLLM:
                faults.append(f"{fact.type} has compute capability {capability}; vLLM needs {OLDEST_VLLM}")
        case "native" | "fastertransformer" if split.tp > 1:
            faults += _even_faults(model, split.tp)
    return faults


def engine_faults(engine: str, model: ModelFacts, tp: int, quantization: str) -> list[str]:
    """Of a degree and a rounding, on any type: what the engine would refuse as it loads the model."""
    faults = []
    if engine == "fastertransformer" and model.encoder_decoder and quantization != "none":
        faults.append(f"FasterTransformer had no {quantization} for {model.family}; engine native has it")
    if engine == "deepspeed" and quantization != "none" and (model.encoder_decoder or tp > 1):
        faults.append(f"{quantization} of engine deepspeed is for decoder-only models at tensor_parallel_degree 1")
    if engine == "vllm":
        faults += vllm_faults(model, tp, quantization)
    elif engine in ("accelerate", "deepspeed") and tp > 1 and ENGINES[engine].splits(model.family):
        faults += _even_faults(model, tp)
        if model.kv_heads % tp and not model.heads % tp:
            faults.append(
                f"tensor_parallel_degree {tp} does not divide the number of key-value heads {model.kv_heads}; "
                f"use {_divisors(model.kv_heads)}"
            )
    return faults


def _candidates(engine: str, fact: InstanceFact) -> Iterator[Split]:
    devices = fact.devices if fact.accelerator is not None else max(DEGREES)
    degrees = neuron_degrees(fact) if fact.hardware == "neuron" else DEGREES
    stages = DEGREES if engine in PIPELINES and fact.hardware == "gpu" else (1,)
    for pp in stages:
        yield from (Split(tp, pp) for tp in degrees if tp * pp <= devices)


PIPELINES = ("native", "vllm", "accelerate", "fastertransformer")
"""Engines that split layers into stages."""


def _stage_faults(engine: str, model: ModelFacts, pp: int) -> list[str]:
    if engine not in PIPELINES:
        return [f"engine {engine} has no pipeline parallelism; use pipeline_parallel_degree 1"]
    if pp > model.layers:
        return [f"pipeline_parallel_degree {pp} is more than the model's {model.layers} layers"]
    if engine == "fastertransformer" and model.layers % pp:
        return [f"pipeline_parallel_degree {pp} does not divide the model's {model.layers} layers"]
    return []


def _even_faults(model: ModelFacts, tp: int) -> list[str]:
    """FasterTransformer, DeepSpeed and ours: heads and the inner width in equal parts."""
    return [
        f"tensor_parallel_degree {tp} does not divide {what} {size}; use {_divisors(size)}"
        for what, size in (("the number of attention heads", model.heads), ("the feed-forward width", model.ffn))
        if size % tp
    ]


def vllm_faults(model: ModelFacts, tp: int, quantization: str) -> list[str]:
    """Of a degree, on any type: vLLM's rules of divisibility."""
    faults = []
    if model.heads % tp:
        faults.append(
            f"tensor_parallel_degree {tp} does not divide the number of attention heads {model.heads}; "
            f"use {_divisors(model.heads)}"
        )
    if model.latent is None and model.kv_heads % tp and tp % model.kv_heads:
        faults.append(
            f"tensor_parallel_degree {tp} neither divides the number of key-value heads {model.kv_heads} "
            f"nor is a multiple of it; use {_divisors(model.kv_heads)}"
        )
    for what, width in _widths(model):
        if width % tp:
            faults.append(f"tensor_parallel_degree {tp} does not divide {what} {width}; use {_divisors(width)}")
    words = -(-model.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
    if words % tp:
        faults.append(
            f"tensor_parallel_degree {tp} does not divide the padded vocabulary {words} "
            f"({model.vocabulary} words, in {VOCABULARY_PADDING}s)"
        )
    return faults or _tile_faults(model, tp, quantization)


def _widths(model: ModelFacts) -> Iterator[tuple[str, int]]:
    """What the ranks divide in a layer's feed-forward part."""
    if model.expert_layers < model.layers:
        yield "the feed-forward width", model.ffn
    if model.moe:
        yield "the width of an expert", model.expert_ffn
        if model.shared_ffn:
            yield "the width of the shared experts", model.shared_ffn


def _tile_faults(model: ModelFacts, tp: int, quantization: str) -> list[str]:
    """Each rank's part of a quantized matrix is whole groups of scales and whole tiles of the kernel."""
    block = quantization == "fp8" and model.block is not None
    if quantization not in FOUR_BITS and not block:
        return []
    sides = [("the attention's output", model.heads * model.value_dim), *_widths(model)]
    step = max(model.block or BLOCK, BLOCK) if block else max(model.group or MARLIN_INPUTS, MARLIN_INPUTS)
    kind = f"a scale's block of {step}" if block else f"a scale's group and Marlin's tile of {step}"
    return [
        f"tensor_parallel_degree {tp} leaves {width // tp} of {what} {width} on a rank, which is no multiple of {kind}"
        for what, width in sides
        if (width // tp) % step
    ]


def _divisors(*sizes: int) -> str:
    """Those of the usual degrees, else all up to 64."""
    found = [degree for degree in range(1, 65) if all(size % degree == 0 for size in sizes)]
    usual = [degree for degree in found if degree in DEGREES]
    return " or ".join(map(str, usual if len(usual) > 1 else found))
