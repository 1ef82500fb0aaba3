"""What each engine can do, and which one serves a model. No torch, and no engine is imported: the plan reads it, too.

A row that is not `available` is a name that this version knows and cannot run yet; a model file that asks for it gets
the sentence of `why_not`. Sources of the rows that are not ours: the documentation of djl-serving v0.23 (its engines,
handlers and their keys) and of vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from heavylift_runtime.engines.tasks import GENERATING, task_named
from heavylift_runtime.errors import OptionsError

ANY = "any"  # a family list that holds it serves every family
ENCODERS = ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
"""Families that answer with numbers, not with text."""


@dataclass(frozen=True)
class Capabilities:
    """One engine. `families` are Hugging Face `model_type`s. What a row leaves out, the engine cannot do."""

    name: str
    engine_property: str  # `engine=` in serving.properties
    entry_point: str | None  # `option.entryPoint`; None: the engine needs none
    families: tuple[str, ...]
    hardware: tuple[str, ...]  # cpu | gpu | neuron
    best_for: str
    dtypes: tuple[str, ...] = ("fp32", "fp16", "bf16")
    quantizations: tuple[str, ...] = ("none",)
    rounded_in: tuple[str, ...] = ()  # types of numbers beside quantized matrices; (): all of its dtypes
    gpu_quantizations: tuple[str, ...] = ()  # that it has where it finds a GPU, of which `hardware` promises nothing
    tensor_parallel: bool = False
    split_families: tuple[str, ...] = ()  # those whose layers it divides over ranks; (): all of its families
    pipeline_parallel: bool = False
    aot_partition: bool = False
    streams: bool = False
    adapters: bool = False
    structured: bool = False  # answers bound to a JSON schema, a regular expression, a grammar
    also: tuple[str, ...] = ()  # further entry points of LMI that mean this engine
    module: str = ""  # the Python module whose `load` gives it; not for scripts
    packages: tuple[tuple[str, str], ...] = ()  # what it imports beside the runtime, and what pip calls it
    keys: tuple[str, ...] = ()  # its own `option.*`, beside those that every engine knows
    passes_through: bool = False  # it is handed every `option.*`, also those that nobody here knows
    target: str | None = None  # of the Makefile: it installs the packages into an environment of their own
    one_process: bool = False  # the server starts one rank, whatever the degree: it has processes of its own
    automatic: bool = True  # `auto` may choose it
    why_not: str | None = None  # why this version cannot run it; None: it can

    @property
    def available(self) -> bool:
        """This version can run it, where its packages are installed."""
        return self.why_not is None

    def serves(self, family: str, hardware: str) -> bool:
        """The engine has the family, and runs on the hardware."""
        return hardware in self.hardware and (ANY in self.families or family in self.families)

    def splits(self, family: str | None) -> bool:
        """It divides the layers of a `model_type` over ranks."""
        return self.tensor_parallel and (not self.split_families or family in self.split_families)

    def missing(self) -> str | None:
        """What to install before it can be loaded here, in a sentence; None: nothing. Imports nothing."""
        missing = [pip for name, pip in self.packages if find_spec(name) is None]
        if not missing:
            return None
        or_make = "" if self.target is None else f"; in a checkout of heavylift `make {self.target}` installs it"
        return f"engine {self.name} needs {' and '.join(missing)}: pip install {' '.join(missing)}{or_make}"


GPU_KEYS = ("gpu_memory_utilization", "enforce_eager", "torch_compile")
"""Of the native engine, for the GPU that it may find (native/wish.py)."""
NXD_INFERENCE = ("llama", "mistral", "mixtral", "qwen2", "qwen3")
"""Families of Neuron's newer library. It compiles on any machine and pads heads; the older one does neither."""

_ROWS = (
    Capabilities(
        "native",
        "native",
        None,
        families=("bloom", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "qwen2", "qwen3", "t5"),
        hardware=("cpu",),
        best_for="T5, which today's engines have dropped, and decoder-only models on CPUs",
        quantizations=("none", "int8", "dynamic_int8", "int4", "awq", "gptq"),
        tensor_parallel=True,
        pipeline_parallel=True,
        aot_partition=True,
        streams=True,
        module="heavylift_runtime.engines.native",
        gpu_quantizations=("fp8",),
        keys=("revision", "generation_config", "speculative_length", *GPU_KEYS),  # the third for processors (drafts.py)
    ),
    Capabilities(
        "script",
        "Python",
        "model.py",
        families=(ANY,),
        hardware=("cpu", "gpu"),
        best_for="models that no engine has, served by a model.py of your own",
        streams=True,
        also=("djl_python.stable_diffusion", "djl_python.stable-diffusion"),  # scripts that come with the runtime
        passes_through=True,
    ),
    Capabilities(
        "fastertransformer",
        "FasterTransformer",
        "djl_python.fastertransformer",
        families=("bloom", "gpt2", "gpt_neox", "gptj", "opt", "t5"),
        hardware=("cpu",),  # the native engine's
        best_for="scripts and requests that were written for it; its kernels are the native engine's",
        quantizations=("none", "int8"),  # not T5's: it never had that
        tensor_parallel=True,
        pipeline_parallel=True,
        aot_partition=True,
        streams=True,
        module="heavylift_runtime.engines.fastertransformer",
        keys=("revision", *GPU_KEYS),
    ),
    Capabilities(
        "accelerate",
        "Python",
        "djl_python.huggingface",
        families=(ANY,),
        hardware=("cpu", "gpu"),
        best_for="all models that no engine optimizes",
        tensor_parallel=True,  # or layers placed on devices, in memory and on disk (device_map) from one process
        split_families=("gpt_neox", "llama", "mistral", "mixtral", "qwen2", "qwen3"),
        streams=True,
        module="heavylift_runtime.engines.accelerate",
        keys=(
            *("task", "device_map", "max_memory", "revision", "trust_remote_code", "src_lang", "tgt_lang"),
            "generation_config",
            *("pooling", "normalize"),  # of embeddings
            "low_cpu_mem_usage",  # what transformers does anyway
        ),
    ),
    Capabilities(
        "neuronx",
        "Python",
        "djl_python.transformers_neuronx",
        families=("bloom", "gpt2", "gpt_neox", "gptj", "opt", *NXD_INFERENCE),
        hardware=("neuron",),
        best_for="all that it supports, on Inf2, Trn1 and Trn2",
        quantizations=("none", "static_int8"),
        tensor_parallel=True,  # and it compiles ahead of time instead of partitioning
        streams=True,
        also=("djl_python.transformers-neuronx",),
        module="heavylift_runtime.engines.neuronx",  # which says what to install: AWS's index has it, PyPI has not
        keys=(
            *("n_positions", "context_length_estimate", "compiled_graph_path", "model_loader", "amp", "unroll"),
            *("neuron_optimize_level", "enable_mixed_precision_accumulation", "enable_saturate_infinity", "fuse_qkv"),
            *("group_query_attention", "attention_layout", "collectives_layout", "cache_layout", "all_reduce_dtype"),
            *("cast_logits_dtype", "rolling_batch_strategy"),  # the second: continuous_batching, where the family can
            *("low_cpu_mem_usage", "load_split_model"),  # what the SDK does anyway
        ),
        one_process=True,
    ),
    Capabilities(
        "vllm",
        "Python",
        "djl_python.vllm",
        families=(  # of vLLM 0.32's registry of models those whose sizes the plan knows
            *("apertus", "arcee", "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4"),
            *("falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_bigcode"),
            *("gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "llama", "llama4", "llama4_text", "minimax_m2"),
            *("mistral", "mistral3", "mixtral", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3"),
            *("phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2"),
        ),
        hardware=("cpu", "gpu"),
        best_for="decoder-only models under many concurrent requests",
        quantizations=("none", "awq", "gptq", "fp8", "mxfp4"),  # the last: gpt-oss' own
        tensor_parallel=True,
        pipeline_parallel=True,
        streams=True,
        adapters=True,
        structured=True,
        also=("djl_python.lmi_vllm.vllm_async_service", "djl_python.lmi-dist"),
        module="heavylift_runtime.engines.vllm",
        packages=(("vllm", "vllm"),),
        target="vllm",
        passes_through=True,  # to vLLM's own arguments, and checked against the installed version
        one_process=True,
    ),
    Capabilities(
        "deepspeed",
        "DeepSpeed",
        "djl_python.deepspeed",
        families=("gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "qwen2", "qwen3", "t5"),
        hardware=("cpu", "gpu"),
        best_for="models that one device has no room for, where no other engine has them",
        quantizations=("none", "int8"),  # of one rank's layers
        rounded_in=("fp16",),
        tensor_parallel=True,
        aot_partition=True,
        streams=True,
        module="heavylift_runtime.engines.deepspeed",
        packages=(("deepspeed", "deepspeed"),),
        target="deepspeed",
        automatic=False,  # on a GPU it was never run
        keys=(
            *("task", "revision", "trust_remote_code", "low_cpu_mem_usage", "checkpoint", "save_mp_checkpoint_path"),
            *("deepspeed_config_path", "triangular_masking", "return_tuple", "max_tokens", "generation_config"),
        ),
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


def encoder_fault(engine: str, family: str) -> str | None:
    """Why an engine that only generates text cannot serve a `model_type`; None: that is no encoder."""
    if family not in ENCODERS:
        return None
    return (
        f"{engine} never had encoders, and model_type {family!r} is one: engine accelerate answers with its numbers "
        f"(option.entryPoint=djl_python.huggingface, option.task=feature-extraction or text-classification)"
    )


def encoder_task(config: Mapping[str, Any]) -> str | None:
    """What a config.json's model is for, where it answers with numbers; None: with text, or the file does not say."""
    try:
        task = task_named(None, config.get("architectures") or ())
    except OptionsError:
        return None
    return None if task in GENERATING else task


def family_fault(row: Capabilities, family: str) -> str | None:
    """Why an engine that is asked for by name cannot serve a `model_type`; None: it can, or it decides that itself."""
    if row.passes_through or ANY in row.families or family in row.families:
        return None
    other = f"engine {row.name} has no model_type {family!r}: it has {', '.join(row.families)}"
    return encoder_fault(f"engine {row.name}", family) or other


def engine_for(family: str, hardware: str) -> tuple[str, str]:
    """The engine that `auto` means for a `model_type` on cpu, gpu or neuron, and the reason in one sentence.

    Only engines that load the weights themselves are chosen; a script is the user's own decision. Raises OptionsError.
    """
    for row in _ROWS:
        if row.available and row.automatic and ANY not in row.families and row.serves(family, hardware):
            return row.name, f"{row.name} has the family {family!r} on {hardware}; it is best for {row.best_for}"
    own = [row.name for row in _ROWS if row.available and row.name != "script" and row.serves(family, hardware)]
    known = f" unless 'engine:' names it ({', '.join(own)})" if own else ""
    raise OptionsError(
        f"no engine of this version serves model_type {family!r} on {hardware}{known}; "
        f"give 'code:' a folder with a model.py of your own and set 'engine: script'"
    )


def engine_of(engine_property: str, entry_point: str | None) -> Capabilities:
    """The row that `engine=` and `option.entryPoint` of serving.properties name; raises OptionsError.

    The entry point decides where there is one, whatever `engine=` says beside it: AWS's samples combine them freely. A
    file is a script, also with engine=DeepSpeed; a module of djl_python is its engine. engine=MPI is LMI's other name
    for Python with option.mpi_mode=true.
    """
    wanted = "python" if engine_property.upper() == "MPI" else engine_property.lower()
    rows = [row for row in _ROWS if row.engine_property.lower() == wanted]
    if not rows:
        spellings = sorted({"MPI", *(row.engine_property for row in _ROWS)}, key=str.lower)
        near = get_close_matches(engine_property, spellings, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionsError(f"unknown engine={engine_property}: use {', '.join(spellings)}{hint}")
    if entry_point is None:
        return capabilities(rows[0].name)
    if not entry_point.startswith("djl_python."):
        return capabilities("script")
    named = [row for row in _ROWS if entry_point in (row.entry_point, *row.also)]
    if not named:
        modules = ", ".join(name for name in (row.entry_point or "" for row in _ROWS) if name.startswith("djl_python."))
        raise OptionsError(f"unknown option.entryPoint={entry_point}: use a file in the folder, or one of {modules}")
    return capabilities(named[0].name)
