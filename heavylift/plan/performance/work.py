"""What one model computes and moves, counted per token; nothing of any machine is in it.

Not the counting of its parameters (heavylift.plan.model): these are the sums that a time is made of. Formulas of the
operations: Kaplan et al. 2020 (arXiv 2001.08361).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from heavylift.plan.model import BYTES, SCHEMES, ModelFacts
from heavylift.plan.performance.numbers import Numbers

Rows = TypeVar("Rows", float, Numbers)


@dataclass(frozen=True)
class Work:
    """All sums are over the whole copy, before it is split; bytes, and multiply-adds (2 floating-point operations).

    A prompt token costs `prompt_parameters` multiply-adds in `prompt_layers` (of a decoder-only model: its layers; of
    an encoder-decoder: the encoder's), a generated one `step_parameters` in `step_layers`.
    """

    prompt_layers: int
    step_layers: int
    hidden: int
    attention: int
    """Heads · head_dim: the width of a query."""
    prompt_parameters: float
    step_parameters: float
    weight_bytes: float
    """Read by every decode step."""
    parameters: float
    """Of the whole model; they decide how far foreign coefficients are trusted."""
    causal: bool = True
    expert_bytes: float = 0.0
    """Routed experts, of which a step reads those that its batch touches."""
    active_share: float = 1.0
    """Of the experts, those that one token uses."""
    kv_bytes: float = 0.0
    """Cache of one generated token."""
    prompt_kv_bytes: float = 0.0
    """Cache of one prompt token: the same in a decoder, the cross-attention's in an encoder-decoder."""
    kv_parts: int = 1
    """Ranks over which the cache can be divided: its heads; beyond them it is repeated."""
    window: int | None = None
    """Tokens back that the windowed layers see; None: no layer has a window."""
    window_share: float = 0.0
    """Of the layers, those with a window."""
    activation_bytes: int = 2
    prompt_reductions: int = 2
    """Sums over the ranks in each layer of a prompt."""
    step_reductions: int = 2
    """Sums over the ranks in each layer of a decode step."""

    @classmethod
    def of(cls, facts: ModelFacts, dtype: str, quantization: str = "none", kv_dtype: str | None = None) -> Work:
        """`dtype`: what is computed in; `kv_dtype`: of the cache, None for the same."""
        counted, each = facts.counted, BYTES[dtype]
        scheme = SCHEMES[quantization]
        matrix = each if scheme is None else scheme
        head = facts.hidden * facts.vocabulary
        dense = counted.attention + counted.kv + counted.dense
        cache = facts.kv_bytes_per_token(1, kv_dtype or dtype)
        both = facts.encoder_decoder
        return cls(
            prompt_layers=facts.encoder_layers if both else facts.layers,
            step_layers=facts.layers,
            hidden=facts.hidden,
            attention=facts.heads * facts.head_dim,
            prompt_parameters=counted.encoder + counted.cross_kv if both else facts.layer_parameters,
            step_parameters=facts.layer_parameters + head,
            weight_bytes=dense * matrix + (head + counted.other) * each,
            parameters=facts.parameters,
            causal=not both,
            expert_bytes=counted.experts * matrix,
            active_share=facts.experts_per_token / facts.experts if facts.moe else 1.0,
            kv_bytes=cache,
            prompt_kv_bytes=facts.cross_bytes_per_token(1, kv_dtype or dtype) if both else cache,
            kv_parts=1 if facts.latent is not None else facts.kv_heads,
            window=facts.window,
            window_share=facts.window_layers / facts.layers,
            activation_bytes=int(each),
            step_reductions=3 if both else 2,
        )

    def prompt_flops(self, tokens: float) -> float:
        """Of one prompt: 2 · parameters · tokens + 4 · layers · width · pairs of tokens (half of them, if causal)."""
        pairs = tokens**2 / 2 if self.causal else tokens**2
        if self.window is not None and self.window < tokens:
            near = self.window * tokens - self.window**2 / 2
            pairs = (1 - self.window_share) * pairs + self.window_share * near
        return 2 * self.prompt_parameters * tokens + 4 * self.prompt_layers * self.attention * pairs

    def read_bytes(self, rows: Rows) -> Rows:
        """Weights that a decode step of so many rows reads: all dense ones, and the experts that are touched."""
        idle: Rows = (1 - self.active_share) ** rows
        return self.weight_bytes + self.expert_bytes * (1 - idle)

    def cache_bytes(self, prompt: float, generated: float) -> float:
        """Cache that a step reads for one row."""
        if self.window is None or self.window >= prompt + generated:
            return self.prompt_kv_bytes * prompt + self.kv_bytes * generated
        near = self.kv_bytes * self.window
        return (1 - self.window_share) * (self.prompt_kv_bytes * prompt + self.kv_bytes * generated) + (
            self.window_share * near
        )
