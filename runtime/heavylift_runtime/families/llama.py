"""Llama, Mistral, Qwen2 and Qwen3 (Touvron et al. 2023; Jiang et al. 2023; Qwen team 2024, 2025): config.json, weights.

Not the forward pass: that is native/architectures/llama.py. What silent configs mean is as in transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.decoder import ACTIVATIONS, DecoderFamily, Shape, linear, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.rotary import rotary_of
from heavylift_runtime.families.table import Split, Weight

COMMON: dict[str, Any] = {
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
    "attention_bias": False, "mlp_bias": False, "use_sliding_window": False, "max_window_layers": 28,
}  # fmt: skip
SILENT: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "max_position_embeddings": 2048},
    "mistral": {**COMMON, "max_position_embeddings": 131072, "num_key_value_heads": 8},
    "qwen2": {**COMMON, "max_position_embeddings": 32768, "num_key_value_heads": 32},
    "qwen3": {**COMMON, "max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
}
"""`model_type` → what its config.json may leave out."""
WINDOW = 4096
"""Mistral's and Qwen's, where their config.json has no 'sliding_window'."""
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
KEYS = {"heads": "num_attention_heads", "pairs": "num_key_value_heads", "inner": "intermediate_size"}
LAYER, FINAL = "model.layers.{}", "model.norm"


@dataclass(frozen=True, kw_only=True)
class LlamaShape(Shape):
    query_bias: bool = False
    """Of the query, key and value projections."""
    output_bias: bool = False
    inner_bias: bool = False
    head_norm: bool = False
    """Queries and keys are normed, each head for itself (Qwen3)."""


class Llama(DecoderFamily[LlamaShape]):
    title = "Llama, Mistral, Qwen2, Qwen3"
    prefix = "model."
    keys = KEYS
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"

    def shape(self, config: Mapping[str, Any]) -> LlamaShape:
        kind = config["model_type"]
        fields = Fields(config, SILENT[kind])
        fields.architecture(ARCHITECTURES)
        bias = fields.truth("attention_bias")
        shape = LlamaShape(
            **sizes(fields),
            windows=_windows(fields, kind),
            query_bias=kind == "qwen2" or (kind != "mistral" and bias),
            output_bias=kind in ("llama", "qwen3") and bias,
            inner_bias=kind == "llama" and fields.truth("mlp_bias"),
            head_norm=kind == "qwen3",
        )
        fields.prove()
        return shape

    def layer(self, shape: LlamaShape, number: int) -> Iterator[Weight]:
        prefix, up = LAYER.format(number), (shape.inner, shape.width)
        yield from attention(shape, prefix)
        yield from norm(f"{prefix}.post_attention_layernorm", shape.width, bias=False)
        for name in ("gate_proj", "up_proj"):
            yield from linear(f"{prefix}.mlp.{name}", up, Split.COLUMN, bias=shape.inner_bias)
        yield from linear(f"{prefix}.mlp.down_proj", up[::-1], Split.ROW, bias=shape.inner_bias)

    def back(self, shape: LlamaShape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width, bias=False)

    def buffers(self, shape: LlamaShape) -> Iterator[str]:
        yield from rotary_buffers(shape)


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of Shape that Llama and Mixtral spell alike."""
    heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    unshared = fields.none("num_key_value_heads")  # also where its family shares them unless config.json says otherwise
    pairs = heads if unshared else fields.whole("num_key_value_heads")
    head_width = fields.whole("head_dim") if fields.given("head_dim") is not None else max(1, width // heads)
    if heads % pairs:
        fields.refuse("num_key_value_heads", f"it must divide 'num_attention_heads' {heads}")
    rotary, positions = rotary_of(fields, head_width), fields.whole("max_position_embeddings")
    return {
        "vocabulary": fields.whole("vocab_size"),
        "width": width,
        "layers": fields.whole("num_hidden_layers", most=MOST_LAYERS),
        "heads": heads,
        "pairs": pairs,
        "head_width": head_width,
        "inner": fields.whole("intermediate_size"),
        "activation": fields.choice("hidden_act", ACTIVATIONS),
        "epsilon": fields.number("rms_norm_eps", below=1.0),
        "tied": fields.truth("tie_word_embeddings"),
        "positions": positions if rotary.reach is None else min(positions, rotary.reach),
        "rotary": rotary,
    }


def attention(shape: LlamaShape, prefix: str) -> Iterator[Weight]:
    """A layer's norm, its four projections, and the norms of its heads."""
    yield from norm(f"{prefix}.input_layernorm", shape.width, bias=False)
    unit = shape.head_width
    for name, heads in (("q", shape.heads), ("k", shape.pairs), ("v", shape.pairs)):
        for weight in linear(
            f"{prefix}.self_attn.{name}_proj",
            (heads * unit, shape.width),
            Split.COLUMN,
            unit=unit,
            bias=shape.query_bias,
        ):
            yield weight if name == "q" else _replicated(weight)
    if shape.head_norm:
        for name in "qk":
            yield from norm(f"{prefix}.self_attn.{name}_norm", unit, bias=False)
    size = (shape.width, shape.heads * unit)
    yield from linear(f"{prefix}.self_attn.o_proj", size, Split.ROW, unit=unit, bias=shape.output_bias)


def rotary_buffers(shape: Shape) -> Iterator[str]:
    return (f"{LAYER.format(layer)}.self_attn.rotary_emb.inv_freq" for layer in range(shape.layers))


def _replicated(weight: Weight) -> Weight:
    return Weight(weight.name, weight.shape, weight.split, weight.unit, replicated=True)


def window_of(fields: Fields, absent: int | None) -> int | None:
    """`sliding_window`, which null switches off; `absent` where config.json has no such key."""
    if not fields.says("sliding_window"):
        return absent
    return None if fields.given("sliding_window") is None else fields.whole("sliding_window")


def _windows(fields: Fields, kind: str) -> tuple[int | None, ...]:
    layers = fields.whole("num_hidden_layers", most=MOST_LAYERS)
    if kind == "mistral":
        return (window_of(fields, WINDOW),) * layers
    if kind == "llama" or not fields.truth("use_sliding_window"):
        return ()
    window, types = window_of(fields, WINDOW), fields.given("layer_types")
    first = fields.whole("max_window_layers", least=0)
    if types is None:
        return tuple(window if layer >= first else None for layer in range(layers))
    known = {"full_attention": None, "sliding_attention": window}
    if not isinstance(types, list) or len(types) != layers or not all(t in list(known) for t in types):
        fields.refuse("layer_types", f"it must name {' or '.join(map(repr, known))} for each of {layers} layers")
        return ()
    return tuple(known[t] for t in types)
