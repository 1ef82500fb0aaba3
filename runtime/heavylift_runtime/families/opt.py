"""OPT (Zhang et al. 2022): config.json and table of weights. The 350 M model norms after each layer, and embeds narrow.

Not the forward pass: that is native/architectures/opt.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.decoder import ACTIVATIONS, DecoderFamily, Shape, linear, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {
    "activation_function": "relu", "tie_word_embeddings": True, "do_layer_norm_before": True,
    "_remove_final_layer_norm": False, "max_position_embeddings": 2048,
}  # fmt: skip
KEYS = {"heads": "num_attention_heads", "pairs": "num_attention_heads", "inner": "ffn_dim"}
LAYER, FINAL = "model.decoder.layers.{}", "model.decoder.final_layer_norm"
POSITIONS = "model.decoder.embed_positions.weight"
PROJECT_IN, PROJECT_OUT = "model.decoder.project_in.weight", "model.decoder.project_out.weight"
OFFSET = 2
"""The first token's row in the table of positions."""


@dataclass(frozen=True, kw_only=True)
class OPTShape(Shape):
    embedded: int
    """Width of a token's embedding; where it is not `width`, it is projected on the way in and out."""
    before: bool
    """Norms stand before the layers, else after them."""
    final_norm: bool


class OPT(DecoderFamily[OPTShape]):
    title = "OPT"
    prefix = "model."
    keys = KEYS
    embedding, head = "model.decoder.embed_tokens.weight", "lm_head.weight"

    def shape(self, config: Mapping[str, Any]) -> OPTShape:
        fields = Fields(config, SILENT)
        fields.architecture(["OPTForCausalLM"])
        fields.only("enable_bias", True, "only true is known")
        fields.only("layer_norm_elementwise_affine", True, "only true is known")
        heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
        if width % heads:
            fields.refuse("hidden_size", f"'num_attention_heads' {heads} must divide it")
        before = fields.truth("do_layer_norm_before")
        shape = OPTShape(
            vocabulary=fields.whole("vocab_size"),
            width=width,
            layers=fields.whole("num_hidden_layers", most=MOST_LAYERS),
            heads=heads,
            pairs=heads,
            head_width=max(1, width // heads),
            inner=fields.whole("ffn_dim"),
            activation=fields.choice("activation_function", ACTIVATIONS),
            epsilon=1e-5,
            tied=fields.truth("tie_word_embeddings"),
            positions=fields.whole("max_position_embeddings"),
            embedded=width if fields.given("word_embed_proj_dim") is None else fields.whole("word_embed_proj_dim"),
            before=before,
            final_norm=before and not fields.truth("_remove_final_layer_norm"),
        )
        fields.prove()
        return shape

    def embedded(self, shape: OPTShape) -> int:
        return shape.embedded

    def front(self, shape: OPTShape) -> Iterator[Weight]:
        assert shape.positions is not None
        yield Weight(POSITIONS, (shape.positions + OFFSET, shape.width))
        if shape.embedded != shape.width:
            yield Weight(PROJECT_IN, (shape.width, shape.embedded))

    def layer(self, shape: OPTShape, number: int) -> Iterator[Weight]:
        prefix, width, inner, unit = LAYER.format(number), shape.width, shape.inner, shape.head_width
        yield from norm(f"{prefix}.self_attn_layer_norm", width)
        for name in "qkv":
            yield from linear(f"{prefix}.self_attn.{name}_proj", (width, width), Split.COLUMN, unit=unit)
        yield from linear(f"{prefix}.self_attn.out_proj", (width, width), Split.ROW, unit=unit)
        yield from norm(f"{prefix}.final_layer_norm", width)
        yield from linear(f"{prefix}.fc1", (inner, width), Split.COLUMN)
        yield from linear(f"{prefix}.fc2", (width, inner), Split.ROW)

    def back(self, shape: OPTShape) -> Iterator[Weight]:
        if shape.final_norm:
            yield from norm(FINAL, shape.width)
        if shape.embedded != shape.width:
            yield Weight(PROJECT_OUT, (shape.embedded, shape.width))

    def buffers(self, shape: OPTShape) -> Iterator[str]:
        yield "model.decoder.version"
