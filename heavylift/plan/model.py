"""What the plan knows of a model: its sizes, its parameters, and what weights and cache take in bytes.

Not a measurement, and no weights: config.json says it, and the checkpoint's headers where they were read; operations
are performance/work.py's. The cache's formula: Kwon et al. 2023 (arXiv 2309.06180).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

from heavylift.plan.dimensions import Dimensions, read
from heavylift.plan.parameters import Parameters, count

BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0}
"""Bytes of one number, in the cache and of an unquantized weight."""
GROUP = 128  # weights that share a scale, in AWQ's and GPTQ's usual checkpoints
SCHEMES = {
    "none": None,
    "awq": 0.5 + 2.5 / GROUP,  # four bits; a 16-bit scale and a 4-bit zero for each group
    "gptq": 0.5 + 2.5 / GROUP,
    "fp8": 1.0,
    "int8": 1.0,
    "dynamic_int8": 1.0,
    "static_int8": 1.0,
    "int4": 0.5 + 4 / 32,  # two 16-bit numbers for each 32
    "mxfp4": 0.5 + 1 / 32,  # four bits; an 8-bit scale for each 32
    "nvfp4": 0.5 + 1 / 16,
}
"""Quantization → bytes for each weight of the layers' matrices; None: as the number format says."""


OWN_SCHEMES = ("awq", "gptq", "mxfp4")
"""Those that are read from a checkpoint that has them; the others an engine can round to as it loads, too."""


@dataclass(frozen=True)
class ModelFacts(Dimensions):
    """A model of which config.json is known.

    `counted` is what the sizes give; `parameters` is the checkpoint's own number where its headers were read.
    """

    counted: Parameters
    parameters: int

    @classmethod
    def of(cls, config: Mapping[str, Any], *, parameters: int | None = None) -> ModelFacts:
        """`parameters`: the checkpoint's own number. InputError: every fault of config.json.

        A quantized checkpoint packs several weights into one stored number, so its count is not that of its weights.
        """
        sizes = read(config)
        counted = count(sizes)
        return cls(
            **{field.name: getattr(sizes, field.name) for field in fields(sizes)},
            counted=counted,
            parameters=counted.total if parameters is None or sizes.quantized is not None else parameters,
        )

    def weight_bytes(self, dtype: str, quantization: str = "none") -> int:
        """Bytes of all weights. Quantization shrinks the layers' matrices; embeddings, head and norms keep `dtype`."""
        each, shrunk = SCHEMES[quantization], self.shrunk(quantization)
        if each is None:
            return ceil(self.parameters * BYTES[dtype])
        return ceil(shrunk * each + (self.parameters - shrunk) * BYTES[dtype])

    def shrunk(self, quantization: str) -> int:
        """Weights that a quantization makes smaller: all matrices of the layers; with MXFP4 those of experts only."""
        if SCHEMES[quantization] is None:
            return 0
        return self.counted.experts if quantization == "mxfp4" and self.moe else self.counted.linear

    def rank_bytes(self, dtype: str, quantization: str = "none", *, tp: int = 1, pp: int = 1) -> int:
        """Bytes of weights on the fullest rank: what is split, and copies of norms and of scarce key heads."""
        whole = self.weight_bytes(dtype, quantization)
        each = SCHEMES[quantization]
        matrix = BYTES[dtype] if each is None or quantization == "mxfp4" else each
        copies = self.counted.kv * (max(1, tp / self.kv_heads) - 1) * matrix if self.latent is None else 0.0
        copies += self.counted.other * (tp - 1) * BYTES[dtype]
        layers = (whole + copies) / tp
        if pp == 1:
            return ceil(layers)
        ends = max(self.counted.embedding, self.counted.head or self.counted.embedding) * BYTES[dtype] / tp
        middle = layers - (self.counted.embedding + self.counted.head) * BYTES[dtype] / tp
        return ceil(middle * ceil(self.layers / pp) / self.layers + ends)

    def kv_bytes_per_token(self, tp: int = 1, kv_dtype: str = "fp16", pp: int = 1) -> float:
        """Bytes of cache on one rank for one token of context, all layers looking back on all of it."""
        return ceil(self.layers / pp) * self._layer_kv(tp) * BYTES[kv_dtype]

    def cross_bytes_per_token(self, tp: int = 1, kv_dtype: str = "fp16", pp: int = 1) -> float:
        """Bytes of cache on one rank for one token of the source; 0 without an encoder."""
        return self.kv_bytes_per_token(tp, kv_dtype, pp) if self.encoder_decoder else 0.0

    def cache_bytes(self, tokens: int, *, source: int = 0, tp: int = 1, kv_dtype: str = "fp16", pp: int = 1) -> int:
        """Bytes of cache on one rank for one sequence: `tokens` in the decoder, `source` in the encoder.

        A decoder-only model's prompt counts in `tokens`. Layers with a window keep no more than that.
        """
        layer = self._layer_kv(tp) * BYTES[kv_dtype]
        near = min(tokens, self.window) if self.window is not None else tokens
        rows = (self.layers - self.window_layers) * tokens + self.window_layers * near
        total = layer * rows * ceil(self.layers / pp) / self.layers
        return ceil(total + source * self.cross_bytes_per_token(tp, kv_dtype, pp))

    def _layer_kv(self, tp: int) -> float:
        """Numbers that one layer keeps on one rank for a token."""
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope  # every rank keeps all of it
        return max(self.kv_heads / tp, 1) * (self.head_dim + self.value_dim)

    @property
    def layer_parameters(self) -> int:
        """Weights of the decoder's layers that one token is multiplied with."""
        counted = self.counted
        chosen = counted.experts * self.experts_per_token // self.experts if self.moe else 0
        return counted.attention + counted.kv + counted.dense + chosen
