"""What each engine can do, and which one serves a model. No torch, and no engine is imported: the plan reads it, too.

A row that is not `available` is a name that this version knows and cannot run yet; a model file that asks for it gets
the sentence of `why_not`. Sources of the rows that are not ours: the documentation of djl-serving v0.23 (its engines,
handlers and their keys) and of vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from heavylift_runtime.errors import OptionsError

ANY = "any"  # a family list that holds it serves every family


@dataclass(frozen=True)
class Capabilities:
    """One engine. `families` are Hugging Face `model_type`s."""

    name: str
    engine_property: str  # `engine=` in serving.properties
    entry_point: str | None  # `option.entryPoint`; None: the engine needs none
    families: tuple[str, ...]
    hardware: tuple[str, ...]  # cpu | gpu | neuron
    dtypes: tuple[str, ...]
    quantizations: tuple[str, ...]
    tensor_parallel: bool
    aot_partition: bool
    streams: bool
    best_for: str
    module: str = ""  # the Python module whose `load` gives this engine
    why_not: str | None = None  # why this version cannot run it; None: it can

    @property
    def available(self) -> bool:
        """This version can run it."""
        return self.why_not is None

    def serves(self, family: str, hardware: str) -> bool:
        """The engine has the family, and runs on the hardware."""
        return hardware in self.hardware and (ANY in self.families or family in self.families)


_NOT_BUILT = "this version has no {0} engine yet; it has 'native' and 'script'"

_ROWS = (
    Capabilities(
        name="native",
        engine_property="native",
        entry_point=None,
        families=("bloom", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "qwen2", "qwen3", "t5"),
        hardware=("cpu",),
        dtypes=("fp32", "bf16"),  # in fp16, the feed-forward layers of T5 overflow
        quantizations=("none",),
        tensor_parallel=True,
        aot_partition=False,
        streams=False,
        best_for="T5, which today's engines have dropped, and decoder-only models on CPUs",
        module="heavylift_runtime.engines.native",
    ),
    Capabilities(
        name="script",
        engine_property="Python",
        entry_point="model.py",
        families=(ANY,),
        hardware=("cpu", "gpu"),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none",),
        tensor_parallel=False,
        aot_partition=False,
        streams=False,
        best_for="models that no engine has, served by a model.py of your own",
    ),
    Capabilities(
        name="fastertransformer",
        engine_property="FasterTransformer",
        entry_point="djl_python.fastertransformer",
        families=("bloom", "gpt2", "gpt_neo", "gpt_neox", "opt", "t5"),
        hardware=("gpu",),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none", "int8"),
        tensor_parallel=True,
        aot_partition=True,
        streams=True,
        best_for="T5 and BLOOM",
        why_not=_NOT_BUILT.format("FasterTransformer"),
    ),
    Capabilities(
        name="deepspeed",
        engine_property="DeepSpeed",
        entry_point="djl_python.deepspeed",
        families=("bert", "bloom", "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "roberta", "t5", "xlm-roberta"),
        hardware=("gpu",),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none", "dynamic_int8", "smoothquant"),
        tensor_parallel=True,
        aot_partition=True,
        streams=True,
        best_for="the GPT family",
        why_not=_NOT_BUILT.format("DeepSpeed"),
    ),
    Capabilities(
        name="accelerate",
        engine_property="Python",
        entry_point="djl_python.huggingface",
        families=(ANY,),
        hardware=("cpu", "gpu"),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none", "bitsandbytes8", "bitsandbytes4"),
        tensor_parallel=False,
        aot_partition=False,
        streams=True,
        best_for="all models that no engine optimizes",
        why_not=_NOT_BUILT.format("Accelerate"),
    ),
    Capabilities(
        name="neuronx",
        engine_property="Python",
        entry_point="djl_python.transformers_neuronx",
        families=("bloom", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt"),
        hardware=("neuron",),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none", "static_int8"),
        tensor_parallel=True,
        aot_partition=False,  # it compiles ahead of time instead
        streams=True,
        best_for="all that it supports, on Inf2 and Trn1",
        why_not=_NOT_BUILT.format("Transformers-NeuronX"),
    ),
    Capabilities(
        name="vllm",
        engine_property="Python",
        entry_point="djl_python.vllm",
        families=("bloom", "falcon", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "phi", "qwen2"),
        hardware=("gpu",),
        dtypes=("fp32", "fp16", "bf16"),
        quantizations=("none", "awq", "gptq", "fp8"),
        tensor_parallel=True,
        aot_partition=False,
        streams=True,
        best_for="decoder-only models under many concurrent requests",
        why_not=_NOT_BUILT.format("vLLM"),
    ),
)

ENGINES: Mapping[str, Capabilities] = MappingProxyType({row.name: row for row in _ROWS})


def capabilities(name: str) -> Capabilities:
    """The row of an engine that this version can run; raises OptionsError for every other name."""
    row = ENGINES.get(name)
    if row is None:
        near = get_close_matches(name, ENGINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionsError(f"unknown engine {name!r}: use auto, {', '.join(ENGINES)}{hint}")
    if row.why_not is not None:
        raise OptionsError(f"engine {name!r} is not available: {row.why_not}")
    return row


def engine_for(family: str, hardware: str) -> tuple[str, str]:
    """The engine that `auto` means for a `model_type` on cpu, gpu or neuron, and the reason in one sentence.

    Only engines that load the weights themselves are chosen; a script is the user's own decision. Raises OptionsError.
    """
    for row in _ROWS:
        if row.available and ANY not in row.families and row.serves(family, hardware):
            return row.name, f"{row.name} has the family {family!r} on {hardware}; it is best for {row.best_for}"
    later = [row.name for row in _ROWS if not row.available and row.serves(family, hardware)]
    known = f" ({', '.join(later)} would, but this version has none of them)" if later else ""
    raise OptionsError(
        f"no engine of this version serves model_type {family!r} on {hardware}{known}; "
        f"give 'code:' a folder with a model.py of your own and set 'engine: script'"
    )


def engine_of(engine_property: str, entry_point: str | None) -> Capabilities:
    """The row that `engine=` and `option.entryPoint` of serving.properties name; raises OptionsError."""
    rows = [row for row in _ROWS if row.engine_property.lower() == engine_property.lower()]
    if not rows:
        spellings = sorted({row.engine_property for row in _ROWS}, key=str.lower)
        near = get_close_matches(engine_property, spellings, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if engine_property.upper() == "MPI":
            hint = "; MPI starts a script on every rank, which this version does not: use engine=Python"
        raise OptionsError(f"unknown engine={engine_property}: use {', '.join(spellings)}{hint}")
    named = [row for row in rows if row.entry_point == entry_point]
    if not named and entry_point is not None and entry_point.startswith("djl_python."):
        modules = ", ".join(name for name in (row.entry_point or "" for row in _ROWS) if name.startswith("djl_python."))
        raise OptionsError(f"unknown option.entryPoint={entry_point}: use a file in the folder, or one of {modules}")
    row = named[0] if named else rows[0]
    return capabilities(row.name)
