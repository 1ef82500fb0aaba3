"""BLOOM (BigScience 2022): config.json and table of weights. Queries, keys and values are fused head by head.

Not the forward pass: that is native/architectures/bloom.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heavylift_runtime.families.decoder import DecoderFamily, Shape, linear, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
KEYS = {"heads": "n_head", "pairs": "n_head", "inner": "hidden_size"}
LAYER, FINAL = "transformer.h.{}", "transformer.ln_f"
EMBEDDING_NORM = "transformer.word_embeddings_layernorm"


class Bloom(DecoderFamily[Shape]):
    title = "BLOOM"
    prefix = "transformer."
    keys = KEYS
    embedding, head, layers = "transformer.word_embeddings.weight", "lm_head.weight", "n_layer"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        # BLOOM's own releases say some sizes under the names of GPT-2 or of Megatron
        older = {"hidden_size": "n_embed", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
        fields = Fields(config, {**SILENT, **{name: config.get(alias) for name, alias in older.items()}})
        fields.architecture(["BloomForCausalLM", "BloomModel"])
        fields.only("apply_residual_connection_post_layernorm", False, "only false is known")
        heads, width = fields.whole("n_head"), fields.whole("hidden_size")
        if width % heads:
            fields.refuse("hidden_size", f"'n_head' {heads} must divide it")
        shape = Shape(
            vocabulary=fields.whole("vocab_size"),
            width=width,
            layers=fields.whole("n_layer", most=MOST_LAYERS),
            heads=heads,
            pairs=heads,
            head_width=max(1, width // heads),
            inner=4 * width,
            activation="gelu_tanh",
            epsilon=fields.number("layer_norm_epsilon", below=1.0),
            tied=fields.truth("tie_word_embeddings"),
            positions=None,  # its biases reach any distance (Press et al. 2022)
        )
        fields.prove()
        return shape

    def front(self, shape: Shape) -> Iterator[Weight]:
        yield from norm(EMBEDDING_NORM, shape.width)

    def layer(self, shape: Shape, number: int) -> Iterator[Weight]:
        prefix, width, unit = LAYER.format(number), shape.width, shape.head_width
        yield from norm(f"{prefix}.input_layernorm", width)
        yield from fused(f"{prefix}.self_attention", shape)
        yield from linear(f"{prefix}.self_attention.dense", (width, width), Split.ROW, unit=unit)
        yield from norm(f"{prefix}.post_attention_layernorm", width)
        yield from linear(f"{prefix}.mlp.dense_h_to_4h", (shape.inner, width), Split.COLUMN)
        yield from linear(f"{prefix}.mlp.dense_4h_to_h", (width, shape.inner), Split.ROW)

    def back(self, shape: Shape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width)


def fused(prefix: str, shape: Shape, *, bias: bool = True) -> Iterator[Weight]:
    """A head's query, key and value lie together, so whole heads are cut off (also GPT-NeoX's)."""
    size = (3 * shape.width, shape.width)
    yield from linear(f"{prefix}.query_key_value", size, Split.COLUMN, unit=3 * shape.head_width, bias=bias)
