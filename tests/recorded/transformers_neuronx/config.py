"""NeuronConfig and what it is made of; an argument that it does not have is an assertion, as in the original."""

from __future__ import annotations

from typing import Any

ARGUMENTS = {
    "all_reduce_dtype": None, "sparse_attn": None, "quant": None, "cast_logits_dtype": "float32", "fuse_qkv": False,
    "continuous_batching": None, "use_2d_cache_ids": False, "attention_layout": "HSB", "cache_layout": "SBH",
    "collectives_layout": "HSB", "log_softmax_scores": False, "group_query_attention": None,
    "on_device_embedding": False, "on_device_generation": None,
}  # fmt: skip
GQA = ("shard-over-heads", "shard-over-batch", "replicated-heads", "all-gather-heads")


class QuantizationConfig:
    def __init__(
        self,
        quant_dtype: str = "s8",
        dequant_dtype: str = "f16",
        quantize_method: str = "vector_dynamic",
        quantize_attn: bool = True,
    ) -> None:
        if quant_dtype != "s8" or quantize_method != "vector_dynamic":
            raise NotImplementedError(f"{quant_dtype}, {quantize_method} is not implemented")
        self.quant_dtype, self.dequant_dtype = quant_dtype, dequant_dtype


class ContinuousBatchingConfig:
    def __init__(self, batch_size_for_shared_caches: int) -> None:
        self.batch_size_for_shared_caches = batch_size_for_shared_caches


class NeuronConfig:
    def __init__(self, **given: Any) -> None:
        unexpected = {name: value for name, value in given.items() if name not in ARGUMENTS}
        assert len(unexpected) == 0, f"unexpected arguments: {unexpected}"
        for name, usual in ARGUMENTS.items():
            setattr(self, name, given.get(name, usual))
        if given.get("group_query_attention") is not None and given["group_query_attention"] not in GQA:
            raise ValueError(f"{given['group_query_attention']!r} is not a valid GQA")
        self.given = given
