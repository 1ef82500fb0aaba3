"""The sizes that a config.json gives a model, whatever its family calls them. Not the number of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.architectures import ARCHITECTURES, NESTED, USUAL, Architecture
from heavylift.plan.fields import Fields, shown


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one compressed row a token, shared by all heads."""

    query_rank: int | None
    kv_rank: int
    rope: int
    nope: int


@dataclass(frozen=True)
class Dimensions:
    """`layers` are the decoder's; a model without encoder has `encoder_layers` 0.

    `ffn` is a dense layer's width, `expert_ffn` one expert's, `shared_ffn` that of what every token visits besides.
    `window` bounds what `window_layers` of the layers look back on. `positions` is the longest context, if there is
    one. `buckets` are T5's, of relative positions; `ears` Whisper's, of frequencies. `quantized` is what config.json
    says of its checkpoint, with the weights that share a scale: `group` in a row, or a square `block`.
    """

    family: str
    architecture: Architecture
    layers: int
    encoder_layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    ffn: int
    encoder_ffn: int
    gated: bool
    vocabulary: int
    embedding: int
    positions: int | None
    source_positions: int | None
    tied: bool
    experts: int
    experts_per_token: int
    expert_ffn: int
    shared_ffn: int
    expert_layers: int
    window: int | None
    window_layers: int
    latent: Latent | None
    buckets: int
    ears: int
    quantized: str | None
    group: int | None
    block: int | None

    @property
    def encoder_decoder(self) -> bool:
        """A source is read once, and every generated token attends to it."""
        return self.encoder_layers > 0

    @property
    def moe(self) -> bool:
        """Some layers choose a few experts for each token."""
        return self.experts > 0


def read(config: Mapping[str, Any]) -> Dimensions:
    """Raises InputError with every fault of config.json at once."""
    family, config = _language_model(config)
    architecture = ARCHITECTURES[family]
    fields = Fields(config, {**USUAL, **architecture.keys}, architecture.silent)
    method, group, block = _quantization(config, fields)
    sizes = _dimensions(family, _built(architecture, fields), fields)
    dimensions = replace(sizes, quantized=method, group=group, block=block)
    if fields.faults:
        raise InputError(fields.faults)
    return dimensions


def _language_model(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The family and its part of config.json: a model that also sees nests its language model."""
    family = config.get("model_type")
    inner = config.get("text_config")
    if isinstance(family, str) and family in NESTED and isinstance(inner, Mapping):
        family, config = inner.get("model_type", NESTED[family]), inner
    if not isinstance(family, str) or family not in ARCHITECTURES:
        said = "missing" if family is None else f"{shown(family)}, which the plan does not know"
        raise InputError(f"config.json: 'model_type' is {said}; the plan knows {', '.join(ARCHITECTURES)}")
    return family, config


def _built(architecture: Architecture, fields: Fields) -> Architecture:
    """The layers depend on flags of config.json."""
    changes: dict[str, Any] = {}
    key = architecture.attention_bias_key
    if key is not None and fields.flag(key, architecture.attention_bias_default):
        changes |= {"qkv_bias": True, "output_bias": architecture.attention_bias_output}
    if architecture.mlp_bias_key is not None:
        default = architecture.attention_bias_default if architecture.mlp_bias_key == key else False
        changes["mlp_bias"] = fields.flag(architecture.mlp_bias_key, default)
    if architecture.qk_norm_key is not None:
        changes["qk_norm"] = fields.flag(architecture.qk_norm_key, False)
    match architecture.title:
        case "Falcon":
            new, parallel = fields.flag("new_decoder_architecture", False), fields.flag("parallel_attn", True)
            one = parallel and (not new or fields.maybe("num_ln_in_parallel_attn") == 1)
            changes |= {"norms": 1 if one else 2, "mlp_bias": "qkv_bias" in changes}
        case "OPT":
            changes["final_norms"] = int(fields.flag("do_layer_norm_before", True))
        case "Phi-3.5-MoE":
            changes["head_bias"] = fields.flag("lm_head_bias", False)
        case "Seed-OSS":
            changes["output_bias"] = fields.flag("attention_out_bias", False)
        case "StableLM":
            changes["norms"] = 1 if fields.flag("use_parallel_residual", False) else 2
    return replace(architecture, **changes)


def _dimensions(family: str, built: Architecture, fields: Fields) -> Dimensions:
    hidden, heads = fields.size("hidden"), fields.size("heads")
    layers = fields.size("layers", default=fields.size("encoder_layers") if built.stack == "t5" else None)
    encoder_layers = 0 if built.stack == "decoder" else fields.size("encoder_layers")
    latent = _latent(fields) if built.mla else None
    head_dim = fields.maybe("head_dim") if latent is None else latent.nope + latent.rope
    if head_dim is None and hidden % heads:
        fields.refuse(f"'{fields.key('heads')}' {heads} does not divide '{fields.key('hidden')}' {hidden}")
    ffn = fields.size("ffn", default=built.ffn_times * hidden or None)
    experts, per_token, expert_ffn, shared, expert_layers = _experts(built, fields, layers)
    window, window_layers = _window(built, fields, layers)
    return Dimensions(
        family=family,
        architecture=built,
        layers=layers,
        encoder_layers=encoder_layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(built, fields, heads),
        head_dim=hidden // heads if head_dim is None else head_dim,
        value_dim=fields.size("v_head_dim") if latent is not None else head_dim or hidden // heads,
        ffn=ffn,
        encoder_ffn=fields.size("encoder_ffn", default=ffn) if encoder_layers else 0,
        gated=_gated(built, fields),
        vocabulary=fields.size("vocabulary"),
        embedding=fields.size("word_embed_proj_dim", default=hidden) if built.title == "OPT" else hidden,
        positions=_positions(built, fields),
        source_positions=fields.size("max_source_positions") if built.stack == "whisper" else None,
        tied=fields.flag("tie_word_embeddings", built.tied),
        experts=experts,
        experts_per_token=per_token,
        expert_ffn=expert_ffn,
        shared_ffn=shared,
        expert_layers=expert_layers,
        window=window,
        window_layers=window_layers,
        latent=latent,
        buckets=fields.size("relative_attention_num_buckets", 32) if built.stack == "t5" else 0,
        ears=fields.size("num_mel_bins") if built.stack == "whisper" else 0,
        quantized=None,
        group=None,
        block=None,
    )


def _quantization(config: Mapping[str, Any], outer: Fields) -> tuple[str | None, int | None, int | None]:
    """The method, the weights of a row that share a scale, and the side of a block that does."""
    found = config.get("quantization_config")
    if found is None:
        return None, None, None
    if not isinstance(found, Mapping):
        outer.refuse(f"'quantization_config' is {shown(found)}; it must be an object")
        return None, None, None
    fields = Fields(found, {}, {})
    method = fields.word("quant_method", "unknown")
    if method in ("awq", "gptq") and (bits := fields.size("bits", 4)) != 4:
        fields.refuse(f"'bits' is {bits}; of {method} the plan knows 4")
    group = fields.size("group_size", default=-1, least=-1)  # -1: a whole row
    sides = fields.items("weight_block_size", int)
    outer.faults += fields.faults
    return method, group if group > 0 else None, max(sides, default=0) or None


def _latent(fields: Fields) -> Latent:
    return Latent(
        fields.maybe("q_lora_rank"),
        fields.size("kv_lora_rank"),
        fields.size("qk_rope_head_dim"),
        fields.size("qk_nope_head_dim"),
    )


def _kv_heads(built: Architecture, fields: Fields, heads: int) -> int:
    if built.title == "StarCoder":
        return 1 if fields.flag("multi_query", True) else heads
    if built.title == "Falcon":
        if fields.flag("new_decoder_architecture", False):
            return fields.size("num_kv_heads", default=heads)
        return 1 if fields.flag("multi_query", True) else heads
    if built.stack != "decoder" or built.mla:
        return heads
    kv_heads = fields.size("kv_heads", default=heads)
    if heads % kv_heads:
        fields.refuse(f"'{fields.key('kv_heads')}' {kv_heads} does not divide '{fields.key('heads')}' {heads}")
    return kv_heads


def _gated(built: Architecture, fields: Fields) -> bool:
    if built.stack != "t5":
        return built.gated
    return fields.word("feed_forward_proj", "gated-gelu" if built.gated else "relu").startswith("gated-")


def _positions(built: Architecture, fields: Fields) -> int | None:
    if built.stack == "t5":
        return None
    if built.stack == "whisper":
        return fields.size("max_target_positions")
    return fields.size("positions") if built.positions == "learned" else fields.maybe("positions")


def _experts(built: Architecture, fields: Fields, layers: int) -> tuple[int, int, int, int, int]:
    """Experts, experts a token, one's width, the shared ones' width together, layers that have them."""
    if built.experts_key is None:
        return 0, 0, 0, 0, 0
    experts = fields.size(built.experts_key, default=fields.maybe("num_local_experts"))
    per_token, width = fields.size("experts_per_token"), fields.size("expert_ffn")
    if per_token > experts:
        fields.refuse(f"'num_experts_per_tok' {per_token} is more than '{built.experts_key}' {experts}")
    shared = 0
    if built.experts_key == "n_routed_experts":
        shared = fields.size("n_shared_experts", default=0, least=0) * width
    match built.title:
        case "Qwen2-MoE":
            shared = fields.size("shared_expert_intermediate_size", least=0)
        case "Llama 4":
            shared = width
    dense = set(fields.items("mlp_only_layers", int))
    first, step = (
        fields.size("first_k_dense_replace", 0, least=0),
        fields.size("decoder_sparse_step", 1),
    )
    chosen = sum(
        layer >= first and layer not in dense and (layer + 1) % step == 0 for layer in range(min(layers, 10_000))
    )
    return experts, per_token, width, shared, chosen


def _window(built: Architecture, fields: Fields, layers: int) -> tuple[int | None, int]:
    """The window, and how many layers have it. `layer_types`, where published, decides."""
    window = fields.maybe("window")
    types = fields.items("layer_types", str)
    if built.window_flag is not None and not fields.flag(built.window_flag, False):
        return None, 0
    if window is None or (built.window_every == 0 and not types):
        return None, 0
    if types and len(types) != layers:
        fields.refuse(f"'layer_types' has {len(types)} entries for {layers} layers")
    if types:
        windowed = types.count("sliding_attention") + types.count("chunked_attention")
    else:
        every = built.window_every
        windowed = layers if every == 1 else layers - layers // every
    return (window, windowed) if windowed else (None, 0)
