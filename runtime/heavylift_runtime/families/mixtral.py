"""Mixtral (Jiang et al. 2024): config.json and table of weights. Every expert is split over all ranks.

Not the forward pass: that is native/architectures/mixtral.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.decoder import DecoderFamily, norm
from heavylift_runtime.families.fields import MOST_LAYERS, Fields
from heavylift_runtime.families.llama import (
    FINAL,
    KEYS,
    LAYER,
    LlamaShape,
    attention,
    rotary_buffers,
    sizes,
    window_of,
)
from heavylift_runtime.families.table import Split, Weight

SILENT: dict[str, Any] = {
    "rms_norm_eps": 1e-5, "rope_theta": 1e6, "hidden_act": "silu", "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
EXPERTS = "block_sparse_moe"


@dataclass(frozen=True, kw_only=True)
class MixtralShape(LlamaShape):
    experts: int
    chosen: int
    """Experts that a token visits."""


class Mixtral(DecoderFamily[MixtralShape]):
    title = "Mixtral"
    prefix = "model."
    keys = KEYS
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"

    def shape(self, config: Mapping[str, Any]) -> MixtralShape:
        fields = Fields(config, SILENT)
        fields.architecture(["MixtralForCausalLM"])
        given, experts = sizes(fields), fields.whole("num_local_experts", most=MOST_LAYERS)
        chosen = fields.whole("num_experts_per_tok")
        if chosen > experts:
            fields.refuse("num_experts_per_tok", f"it must be at most 'num_local_experts' {experts}")
        windows = (window_of(fields, None),) * given["layers"]
        shape = MixtralShape(**given, windows=windows, experts=experts, chosen=chosen)
        fields.prove()
        return shape

    def layer(self, shape: MixtralShape, number: int) -> Iterator[Weight]:
        prefix, up = LAYER.format(number), (shape.inner, shape.width)
        yield from attention(shape, prefix)
        yield from norm(f"{prefix}.post_attention_layernorm", shape.width, bias=False)
        yield Weight(f"{prefix}.{EXPERTS}.gate.weight", (shape.experts, shape.width))
        for expert in range(shape.experts):
            name = f"{prefix}.{EXPERTS}.experts.{expert}"
            yield Weight(f"{name}.w1.weight", up, Split.COLUMN)
            yield Weight(f"{name}.w3.weight", up, Split.COLUMN)
            yield Weight(f"{name}.w2.weight", up[::-1], Split.ROW)

    def back(self, shape: MixtralShape) -> Iterator[Weight]:
        yield from norm(FINAL, shape.width, bias=False)

    def buffers(self, shape: MixtralShape) -> Iterator[str]:
        yield from rotary_buffers(shape)
