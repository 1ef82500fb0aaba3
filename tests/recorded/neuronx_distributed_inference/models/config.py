"""NeuronConfig and InferenceConfig of NxD Inference; an argument of no meaning is refused here, and ignored there."""

from __future__ import annotations

from typing import Any

import torch

ARGUMENTS: dict[str, Any] = {
    "batch_size": 1, "padding_side": "right", "seq_len": 128, "max_context_length": None, "max_new_tokens": None,
    "max_length": None, "n_active_tokens": None, "n_positions": None, "torch_dtype": torch.bfloat16, "tp_degree": 1,
    "fused_qkv": False, "on_device_sampling_config": None, "enable_bucketing": False, "context_encoding_buckets": None,
    "token_generation_buckets": None, "quantized": False, "quantized_checkpoints_path": None,
    "quantization_dtype": "int8", "quantization_type": "per_tensor_symmetric", "is_continuous_batching": False,
    "max_batch_size": None, "ctx_batch_size": None, "tkg_batch_size": None, "logical_nc_config": 1,
    "save_sharded_checkpoint": True, "sequence_parallel_enabled": False, "flash_decoding_enabled": False,
}  # fmt: skip


class NeuronConfig:
    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - ARGUMENTS.keys():
            raise TypeError(f"NeuronConfig has no {sorted(unknown)}")
        for name, usual in ARGUMENTS.items():
            setattr(self, name, given.get(name, usual))
        for name in ("max_batch_size", "ctx_batch_size", "tkg_batch_size"):
            if getattr(self, name) is None:
                setattr(self, name, self.batch_size)  # type: ignore[attr-defined]  # set from the table
        if self.max_context_length is None:  # type: ignore[attr-defined]  # set from the table
            self.max_context_length = self.seq_len  # type: ignore[attr-defined]  # set from the table
        self.given = given


class MoENeuronConfig(NeuronConfig): ...


class InferenceConfig:
    def __init__(self, neuron_config: NeuronConfig, load_config: Any = None) -> None:
        self.neuron_config = neuron_config
        if load_config is not None:
            load_config(self)
