"""How many numbers a model holds, by what becomes of them: split, replicated, quantized, chosen by a router.

Not their bytes (model.py), nor our own families' tables of tensors (heavylift_runtime.families), with which it agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.plan.dimensions import Dimensions


@dataclass(frozen=True)
class Parameters:
    """`kv` are the decoder's key and value projections, which ranks beyond the number of key heads hold in copies."""

    embedding: int
    head: int
    attention: int
    kv: int
    cross_kv: int
    dense: int
    experts: int
    encoder: int
    other: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.head + self.linear + self.other

    @property
    def linear(self) -> int:
        """Matrices of the layers: what quantization shrinks and ranks divide."""
        return self.attention + self.kv + self.cross_kv + self.dense + self.experts + self.encoder


def count(d: Dimensions) -> Parameters:
    """From the sizes alone."""
    built = d.architecture
    if built.stack == "t5":
        return _t5(d)
    if built.stack != "decoder":
        return _bart(d)
    query, output, kv = _attention(d)
    dense_layers = d.layers - d.expert_layers
    biases = d.layers * (
        _flag(built.qkv_bias) * (d.heads + 2 * d.kv_heads) * d.head_dim
        + _flag(built.output_bias) * d.hidden
        + _flag(built.norm_bias) * built.norms * d.hidden
    )
    biases += dense_layers * _flag(built.mlp_bias) * ((1 + d.gated) * d.ffn + d.hidden)
    norms = (d.layers * built.norms + built.final_norms) * d.hidden + _flag(
        built.norm_bias
    ) * built.final_norms * d.hidden
    if built.qk_norm_wide:
        norms += d.layers * _flag(built.qk_norm) * (d.heads + d.kv_heads) * d.head_dim
    else:
        norms += d.layers * _flag(built.qk_norm) * 2 * d.head_dim * (1 + built.norm_bias)
    norms += _flag(built.embedding_norm) * 2 * d.hidden
    if d.latent is not None:
        norms += d.layers * (d.latent.kv_rank + (d.latent.query_rank or 0))
    routers = d.expert_layers * d.experts * d.hidden
    routing = d.expert_layers * _flag(built.router_bias) * d.experts
    routing += d.expert_layers * _flag(built.expert_bias) * d.experts * (2 * d.expert_ffn + d.hidden)
    routing += d.layers * (_flag(built.sinks) * d.heads + built.scalars)
    gate = (
        d.expert_layers * d.hidden if built.title == "Qwen2-MoE" else 0
    )  # decides how much of the shared expert counts
    projections = 2 * d.embedding * d.hidden if d.embedding != d.hidden else 0  # OPT-350M
    learned = ((d.positions or 0) + built.position_rows) * d.hidden if built.positions == "learned" else 0
    return Parameters(
        embedding=d.vocabulary * d.embedding + learned,
        head=0 if d.tied else d.vocabulary * d.hidden,
        attention=d.layers * (query + output) + projections,
        kv=d.layers * kv,
        cross_kv=0,
        dense=dense_layers * _feed_forward(d, d.ffn)
        + d.expert_layers * _feed_forward(d, d.shared_ffn)
        + routers
        + gate,
        experts=d.expert_layers * d.experts * _feed_forward(d, d.expert_ffn),
        encoder=0,
        other=biases + norms + routing + _flag(built.head_bias) * d.vocabulary,
    )


def _attention(d: Dimensions) -> tuple[int, int, int]:
    """Of one layer: the queries' projection, the output's, and keys' and values' together."""
    output = d.heads * d.value_dim * d.hidden
    if d.latent is None:
        return d.hidden * d.heads * d.head_dim, output, d.hidden * d.kv_heads * (d.head_dim + d.value_dim)
    latent, rank = d.latent, d.latent.query_rank
    query = d.hidden * d.heads * d.head_dim if rank is None else rank * (d.hidden + d.heads * d.head_dim)
    down = d.hidden * (latent.kv_rank + latent.rope)
    return query + latent.kv_rank * d.heads * (latent.nope + d.value_dim), output, down


def _feed_forward(d: Dimensions, width: int) -> int:
    return (2 + d.gated) * d.hidden * width


def _t5(d: Dimensions) -> Parameters:
    inner = d.hidden * d.heads * d.head_dim
    ffn = _feed_forward(d, d.ffn)
    tables = d.encoder_layers + d.layers if d.family == "umt5" else 2  # UMT5 has a position bias in every layer
    norms = (2 * d.encoder_layers + 3 * d.layers + 2) * d.hidden
    return Parameters(
        embedding=d.vocabulary * d.hidden,
        head=0 if d.tied else d.vocabulary * d.hidden,
        attention=d.layers * 4 * inner,
        kv=d.layers * 2 * inner,
        cross_kv=d.layers * 2 * inner,
        dense=d.layers * ffn,
        experts=0,
        encoder=d.encoder_layers * (4 * inner + ffn),
        other=norms + tables * d.buckets * d.heads,
    )


def _bart(d: Dimensions) -> Parameters:
    """BART and Whisper: biases everywhere (but for Whisper's keys), learned positions, LayerNorms with a bias."""
    square, whisper = d.hidden * d.hidden, d.architecture.stack == "whisper"
    attention_bias = (3 if whisper else 4) * d.hidden
    decoder_bias = 2 * attention_bias + d.ffn + d.hidden + 3 * 2 * d.hidden
    encoder_bias = attention_bias + d.encoder_ffn + d.hidden + 2 * 2 * d.hidden
    other = d.layers * decoder_bias + d.encoder_layers * encoder_bias + 2 * 2 * d.hidden
    rows = (d.positions or 0) + (d.source_positions or 0) if whisper else 2 * ((d.positions or 0) + 2)
    ears = (3 * d.ears + 3 * d.hidden + 2) * d.hidden if whisper else 0  # two convolutions of width 3
    return Parameters(
        embedding=(d.vocabulary + rows) * d.hidden,
        head=0 if d.tied else d.vocabulary * d.hidden,
        attention=d.layers * 4 * square,
        kv=d.layers * 2 * square,
        cross_kv=d.layers * 2 * square,
        dense=d.layers * 2 * d.hidden * d.ffn,
        experts=0,
        encoder=d.encoder_layers * (4 * square + 2 * d.hidden * d.encoder_ffn) + ears,
        other=other,
    )


def _flag(value: bool) -> int:
    return int(value)
