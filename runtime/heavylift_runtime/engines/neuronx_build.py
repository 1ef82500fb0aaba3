"""What is compiled for Neuron: one model at fixed shapes, from the options and config.json. No torch, and no SDK.

Not the SDK's calls: neuronx_sdk.py. What each class of the two libraries can is theirs to say: Transformers NeuronX's
developer guide of Neuron 2.21 (https://awsdocs-neuron.readthedocs-hosted.com/en/v2.21.0/libraries/transformers-neuronx/)
and its source (https://github.com/aws-neuron/transformers-neuronx); NxD Inference's API guide of Neuron 2.26
(https://awsdocs-neuron.readthedocs-hosted.com/en/latest/libraries/nxd-inference/api-guides/api-guide.html).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from heavylift_runtime.engines.registry import NXD_INFERENCE
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options

LIBRARIES = MappingProxyType({"tnx": "transformers-neuronx", "nxdi": "neuronx-distributed-inference"})
"""`option.model_loader`, as in LMI, and what pip calls it."""
USUAL_LENGTH = 2048  # tokens, where neither the options nor the model say fewer
SMALLEST_BUCKET = 128  # below it the SDK sees no gain (transformers_neuronx/llama/model.py)
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Limits:
    """What the library's class of one family can."""

    continuous: bool = False
    """A row may join a running batch, in a slot of its own; else all rows are read again together."""
    ragged: bool = True
    """Rows of one batch may have prompts of different lengths."""
    saves: bool = True
    """It saves what it compiled; else the compiler's own cache is kept."""
    prompts: bool = True
    """It compiles a network for prompts (`context_length_estimate`); else they are read token by token."""
    lists: bool = False
    """It takes a list of lengths; else they are powers of two up to the longest."""
    quantizes: bool = True
    pads_heads: bool = False


_TNX: Mapping[str, Limits] = MappingProxyType(
    {
        "bloom": Limits(),
        "gpt2": Limits(),
        "gpt_neox": Limits(saves=False, prompts=False, quantizes=False),
        "gptj": Limits(ragged=False, saves=False, prompts=False, quantizes=False),
        "llama": Limits(continuous=True, lists=True, pads_heads=True),
        "mistral": Limits(continuous=True, lists=True, pads_heads=True),
        "mixtral": Limits(quantizes=False, pads_heads=True),
        "opt": Limits(),
    }
)
_NXDI = Limits(continuous=True, lists=True, quantizes=False, pads_heads=True)
_FAMILIES: Mapping[str, Mapping[str, Limits]] = MappingProxyType(
    {"tnx": _TNX, "nxdi": dict.fromkeys(NXD_INFERENCE, _NXDI)}
)
_FLAGS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {  # LMI's names → neuronx-cc's
        "neuron_optimize_level": lambda text: f"-O{text}",
        "enable_mixed_precision_accumulation": lambda _: "--enable-mixed-precision-accumulation",
        "enable_saturate_infinity": lambda _: "--enable-saturate-infinity",
    }
)
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "model_loader": ("auto", *LIBRARIES),
        "amp": ("f32", "f16", "bf16"),
        "neuron_optimize_level": ("1", "2", "3"),
        "group_query_attention": ("shard-over-heads", "shard-over-batch", "replicated-heads", "all-gather-heads"),
        "attention_layout": ("BSH", "HSB"),
        "collectives_layout": ("BSH", "HSB"),
        "cache_layout": ("BSH", "SBH"),
        "all_reduce_dtype": ("float32", "float16", "bfloat16"),
        "cast_logits_dtype": ("float32", "float16", "bfloat16"),
        **dict.fromkeys(
            ("fuse_qkv", "enable_mixed_precision_accumulation", "enable_saturate_infinity"), ("true", "false")
        ),
    }
)
SETTINGS = ("group_query_attention", "attention_layout", "collectives_layout", "cache_layout", "all_reduce_dtype",
            "cast_logits_dtype", "fuse_qkv")  # fmt: skip
"""Options that are Transformers NeuronX's NeuronConfig's, by the same names; of them NxD Inference has fuse_qkv."""
AMPS = MappingProxyType({"fp32": "f32", "fp16": "f16", "bf16": "bf16"})


@dataclass(frozen=True)
class Build:
    """The shapes and settings that the compiler is given; all of them are part of an artifact's key."""

    library: str  # tnx | nxdi
    family: str
    degree: int
    dtype: str
    rows: int
    """Of one step: the batch that is compiled, and the requests at once."""
    lengths: tuple[int, ...]
    """Tokens of a prompt and its answer together, ascending."""
    prompts: tuple[int, ...]
    """Tokens of a prompt that is read in one pass, ascending; empty: as the SDK decides."""
    quantize: str
    unroll: int | None
    settings: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]

    @property
    def limits(self) -> Limits:
        """Of its class."""
        return _FAMILIES[self.library][self.family]

    @property
    def longest(self) -> int:
        """Tokens of a prompt and its answer together."""
        return self.lengths[-1]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: _listed(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, options: Options, config: Mapping[str, Any]) -> Build:
        """Raises LoadError with every fault."""
        given, family = options.properties, str(config.get("model_type"))
        faults = [
            f"option.{name} must be {' or '.join(allowed)}: got {given[name]!r}"
            for name, allowed in _CHOICES.items()
            if name in given and given[name] not in allowed
        ]
        library = _library(given.get("model_loader", "auto"), family, options.quantize, faults)
        if faults:
            raise LoadError("\n".join(faults))
        limits = _FAMILIES[library][family]
        positions = _positions(config)
        usual = options.max_model_len or min(USUAL_LENGTH, positions or USUAL_LENGTH)
        lengths = _sizes(given, "n_positions", faults) or (usual,)
        prompts = _sizes(given, "context_length_estimate", faults)
        unroll = _sizes(given, "unroll", faults)
        if limits.continuous and not prompts:
            prompts = lengths  # the SDK's own are half of them, and a longer prompt would be refused
        if not limits.lists:
            lengths = _doubled(lengths[-1])
        build = cls(
            library=library,
            family=family,
            degree=options.tensor_parallel_degree,
            dtype=_dtype(options, config, faults),
            rows=options.capacity,
            lengths=lengths,
            prompts=prompts,
            quantize=options.quantize,
            unroll=unroll[-1] if unroll else None,
            settings=tuple((name, given[name]) for name in SETTINGS if given.get(name, "false") != "false"),
            flags=tuple(make(given[name]) for name, make in _FLAGS.items() if given.get(name, "false") != "false"),
        )
        faults += build._faults(given, config, positions)
        if faults:
            raise LoadError("\n".join(faults))
        return build

    def _faults(self, given: Mapping[str, str], config: Mapping[str, Any], positions: int | None) -> list[str]:
        name, limits = f"{LIBRARIES[self.library]}'s {self.family}", self.limits
        faults = []
        heads = next((config[key] for key in ("num_attention_heads", "n_head") if key in config), None)
        if heads is not None and heads % self.degree and not limits.pads_heads:
            able = [str(each) for each in range(1, heads + 1) if heads % each == 0]
            faults.append(
                f"option.tensor_parallel_degree={self.degree} does not divide the {heads} attention heads of {name}, "
                f"which pads none: use {' or '.join(able)}"
            )
        if positions is not None and self.longest > positions:
            faults.append(f"option.n_positions={self.longest} is more than the model's {positions} positions")
        if self.prompts and self.prompts[-1] > self.longest:
            faults.append(
                f"option.context_length_estimate={self.prompts[-1]} is more than option.n_positions={self.longest}"
            )
        if not limits.prompts and "context_length_estimate" in given:
            faults.append(f"option.context_length_estimate: {name} reads prompts token by token; leave it out")
        if self.quantize != "none" and not limits.quantizes:
            faults.append(f"option.quantize={self.quantize}: {name} has none here; leave it out")
        if self.unroll is not None and (self.family == "gpt_neox" or self.library == "nxdi"):
            faults.append(f"option.unroll: {name} has none; leave it out")
        if self.family == "gpt_neox" and not config.get("use_parallel_residual", True):
            faults.append(f"config.json says use_parallel_residual=false, which {name} does not have")
        if self.family == "gptj" and self.settings:
            faults.append(f"option.{self.settings[0][0]}: {name} takes no NeuronConfig; leave it out")
        if self.library == "nxdi":
            ours = [key for key in (*SETTINGS, *_FLAGS) if key in given and key != "fuse_qkv"]
            faults += [f"option.{key} is Transformers NeuronX's; NxD Inference has nothing like it" for key in ours]
        return faults


def _library(asked: str, family: str, quantize: str, faults: list[str]) -> str:
    """`auto` is the newer one where it has the family, in this form: the other is archived."""
    if asked == "auto":
        able = [name for name in ("nxdi", "tnx") if family in _FAMILIES[name]]
        rounding = [name for name in able if _FAMILIES[name][family].quantizes]
        asked = next(iter(rounding if quantize != "none" and rounding else able), "")
    if family in _FAMILIES.get(asked, ()):
        return asked
    names = sorted({each for families in _FAMILIES.values() for each in families})
    has = names if asked not in LIBRARIES else sorted(_FAMILIES[asked])
    whose = LIBRARIES.get(asked, "the Neuron SDK")
    faults.append(f"{whose} has no model_type {family!r} here: it has {', '.join(has)}")
    return asked


def _positions(config: Mapping[str, Any]) -> int | None:
    names = ("max_position_embeddings", "n_positions", "n_ctx")
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)


def _dtype(options: Options, config: Mapping[str, Any], faults: list[str]) -> str:
    """`option.dtype`, or LMI's newer spelling `option.amp`; auto: as the checkpoint is stored."""
    amp = options.properties.get("amp")
    if amp is not None:
        named = next(name for name, each in AMPS.items() if each == amp)
        if options.dtype not in ("auto", named):
            faults.append(f"option.dtype={options.dtype} and option.amp={amp} must be the same: leave one out")
        return named
    if options.dtype != "auto":
        return options.dtype
    return _DTYPES.get(str(config.get("dtype", config.get("torch_dtype"))), "bf16")


def _sizes(given: Mapping[str, str], name: str, faults: list[str]) -> tuple[int, ...]:
    """Whole numbers from 1, with commas between; ascending."""
    parts = [part.strip() for part in given[name].split(",")] if given.get(name, "") not in ("", "None") else []
    if not all(part.isascii() and part.isdigit() and len(part) < 9 and int(part) > 0 for part in parts):
        faults.append(f"option.{name} must be whole numbers from 1, with commas between: got {given[name]!r}")
        return ()
    return tuple(sorted({int(part) for part in parts}))


def _doubled(longest: int) -> tuple[int, ...]:
    """The SDK's own lengths (transformers_neuronx/utils.py, power_of_two_bucket_sizes)."""
    sizes, size = [], SMALLEST_BUCKET
    while size < longest:
        sizes.append(size)
        size *= 2
    return (*sizes, longest)


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value
