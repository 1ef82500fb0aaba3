"""GPT-2 (Radford et al. 2019): config.json and table of weights. Its matrices are stored (in, out), q, k, v fused.

Not the forward pass: that is native/architectures/gpt2.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heavylift_runtime.families.decoder import ACTIVATIONS, DecoderFamily, Shape, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "n_positions": 1024,
}  # fmt: skip
KEYS = {"heads": "n_head", "pairs": "n_head", "inner": "n_inner"}
LAYER, FINAL = "transformer.h.{}", "transformer.ln_f"
POSITIONS = "transformer.wpe.weight"


class GPT2(DecoderFamily[Shape]):
    title = "GPT-2"
    prefix = "transformer."
    keys = KEYS
    embedding, head, layers = "transformer.wte.weight", "lm_head.weight", "n_layer"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        fields = Fields(config, SILENT)
        fields.architecture(["GPT2LMHeadModel"])
        fields.only("scale_attn_weights", True, "only true is known")
        fields.only("scale_attn_by_inverse_layer_idx", False, "only false is known")
        fields.only("add_cross_attention", False, "only false is known")
        shape = Shape(**sizes(fields))
        fields.prove()
        return shape

    def front(self, shape: Shape) -> Iterator[Weight]:
        yield Weight(POSITIONS, (shape.positions or 0, shape.width))

    def layer(self, shape: Shape, number: int) -> Iterator[Weight]:
        prefix, width, inner, unit = LAYER.format(number), shape.width, shape.inner, shape.head_width
        yield from norm(f"{prefix}.ln_1", width)
        name, size = f"{prefix}.attn.c_attn", (width, 3 * width)
        yield Weight(f"{name}.weight", size, Split.COLUMN, unit, transposed=True, fused=3)
        yield Weight(f"{name}.bias", size[1:], Split.COLUMN, unit, fused=3)
        yield Weight(f"{prefix}.attn.c_proj.weight", (width, width), Split.ROW, unit, transposed=True)
        yield Weight(f"{prefix}.attn.c_proj.bias", (width,))
        yield from norm(f"{prefix}.ln_2", width)
        yield Weight(f"{prefix}.mlp.c_fc.weight", (width, inner), Split.COLUMN, transposed=True)
        yield Weight(f"{prefix}.mlp.c_fc.bias", (inner,), Split.COLUMN)
        yield Weight(f"{prefix}.mlp.c_proj.weight", (inner, width), Split.ROW, transposed=True)
        yield Weight(f"{prefix}.mlp.c_proj.bias", (width,))

    def back(self, shape: Shape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width)

    def buffers(self, shape: Shape) -> Iterator[str]:
        yield from mask_buffers(shape)


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of Shape that GPT-2 and GPT-J spell alike."""
    heads, width = fields.whole("n_head"), fields.whole("n_embd")
    if width % heads:
        fields.refuse("n_embd", f"'n_head' {heads} must divide it")
    return {
        "vocabulary": fields.whole("vocab_size"),
        "width": width,
        "layers": fields.whole("n_layer", most=MOST_LAYERS),
        "heads": heads,
        "pairs": heads,
        "head_width": max(1, width // heads),
        "inner": 4 * width if fields.given("n_inner") is None else fields.whole("n_inner"),
        "activation": fields.choice("activation_function", ACTIVATIONS),
        "epsilon": fields.number("layer_norm_epsilon", below=1.0),
        "tied": fields.truth("tie_word_embeddings"),
        "positions": fields.whole("n_positions"),
    }


def mask_buffers(shape: Shape) -> Iterator[str]:
    """The causal mask of each layer, which releases of transformers before 4.27 wrote."""
    for layer in range(shape.layers):
        yield f"{LAYER.format(layer)}.attn.bias"
        yield f"{LAYER.format(layer)}.attn.masked_bias"
