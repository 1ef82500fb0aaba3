"""GPT-J (Wang and Komatsuzaki 2021): config.json and table of weights. Attention and feed-forward share one norm.

Not the forward pass: that is native/architectures/gptj.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heavylift_runtime.families.decoder import DecoderFamily, Shape, linear, norm
from heavylift_runtime.families.fields import Fields
from heavylift_runtime.families.gpt2 import FINAL, KEYS, LAYER, mask_buffers, sizes
from heavylift_runtime.families.rotary import Rotary
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "n_positions": 2048,
    "rotary_dim": 64,
}  # fmt: skip
HEAD_BIAS = "lm_head.bias"


class GPTJ(DecoderFamily[Shape]):
    title = "GPT-J"
    prefix = "transformer."
    keys = KEYS
    embedding, head, layers = "transformer.wte.weight", "lm_head.weight", "n_layer"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        fields = Fields(config, SILENT)
        fields.architecture(["GPTJForCausalLM"])
        given = sizes(fields)
        turned = fields.whole("rotary_dim")
        if turned % 2 or turned > given["head_width"]:
            fields.refuse("rotary_dim", f"it must be even and at most a head's width, {given['head_width']}")
        shape = Shape(**given, rotary=Rotary(turned, 10000.0, interleaved=True))
        fields.prove()
        return shape

    def layer(self, shape: Shape, number: int) -> Iterator[Weight]:
        prefix, width, unit = LAYER.format(number), shape.width, shape.head_width
        yield from norm(f"{prefix}.ln_1", width)
        for name in "qkv":
            yield Weight(f"{prefix}.attn.{name}_proj.weight", (width, width), Split.COLUMN, unit)
        yield from linear(f"{prefix}.mlp.fc_in", (shape.inner, width), Split.COLUMN)
        yield Weight(f"{prefix}.attn.out_proj.weight", (width, width), Split.ROW, unit)
        yield from linear(f"{prefix}.mlp.fc_out", (width, shape.inner), Split.ROW)

    def back(self, shape: Shape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width)

    def beside_head(self, shape: Shape) -> Iterator[Weight]:
        yield Weight(HEAD_BIAS, (shape.vocabulary,), Split.VOCABULARY)

    def buffers(self, shape: Shape) -> Iterator[str]:
        yield from mask_buffers(shape)
