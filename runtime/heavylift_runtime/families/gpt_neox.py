"""GPT-NeoX, Pythia (Black et al. 2022): config.json and table of weights. A part of each head is rotated.

Not the forward pass: that is native/architectures/gpt_neox.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.bloom import fused
from heavylift_runtime.families.decoder import ACTIVATIONS, DecoderFamily, Shape, linear, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.rotary import rotary_of
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "tie_word_embeddings": False, "rotary_pct": 0.25,
    "rotary_emb_base": 10000.0, "max_position_embeddings": 2048, "use_parallel_residual": True, "attention_bias": True,
}  # fmt: skip
KEYS = {"heads": "num_attention_heads", "pairs": "num_attention_heads", "inner": "intermediate_size"}
LAYER, FINAL = "gpt_neox.layers.{}", "gpt_neox.final_layer_norm"


@dataclass(frozen=True, kw_only=True)
class NeoXShape(Shape):
    parallel: bool
    """Attention and feed-forward read the same residual, and both are added to it at once."""
    attention_bias: bool


class GPTNeoX(DecoderFamily[NeoXShape]):
    title = "GPT-NeoX, Pythia"
    prefix = "gpt_neox."
    keys = KEYS
    embedding, head = "gpt_neox.embed_in.weight", "embed_out.weight"

    def shape(self, config: Mapping[str, Any]) -> NeoXShape:
        fields = Fields(config, SILENT)
        fields.architecture(["GPTNeoXForCausalLM"])
        heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
        if width % heads:
            fields.refuse("hidden_size", f"'num_attention_heads' {heads} must divide it")
        head_width = max(1, width // heads)
        shape = NeoXShape(
            vocabulary=fields.whole("vocab_size"),
            width=width,
            layers=fields.whole("num_hidden_layers", most=MOST_LAYERS),
            heads=heads,
            pairs=heads,
            head_width=head_width,
            inner=fields.whole("intermediate_size"),
            activation=fields.choice("hidden_act", ACTIVATIONS),
            epsilon=fields.number("layer_norm_eps", below=1.0),
            tied=fields.truth("tie_word_embeddings"),
            positions=fields.whole("max_position_embeddings"),
            rotary=rotary_of(fields, head_width, theta="rotary_emb_base", share="rotary_pct"),
            parallel=fields.truth("use_parallel_residual"),
            attention_bias=fields.truth("attention_bias"),
        )
        fields.prove()
        return shape

    def layer(self, shape: NeoXShape, number: int) -> Iterator[Weight]:
        prefix, width, inner, unit = LAYER.format(number), shape.width, shape.inner, shape.head_width
        yield from norm(f"{prefix}.input_layernorm", width)
        yield from fused(f"{prefix}.attention", shape, bias=shape.attention_bias)
        size = (width, width)
        yield from linear(f"{prefix}.attention.dense", size, Split.ROW, unit=unit, bias=shape.attention_bias)
        yield from norm(f"{prefix}.post_attention_layernorm", width)
        yield from linear(f"{prefix}.mlp.dense_h_to_4h", (inner, width), Split.COLUMN)
        yield from linear(f"{prefix}.mlp.dense_4h_to_h", (width, inner), Split.ROW)

    def back(self, shape: NeoXShape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width)

    def buffers(self, shape: NeoXShape) -> Iterator[str]:
        for layer in range(shape.layers):
            for name in ("bias", "masked_bias", "rotary_emb.inv_freq"):
                yield f"{LAYER.format(layer)}.attention.{name}"
