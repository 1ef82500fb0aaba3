"""A model of NxD Inference: compile(path), load(path), then calls by slot."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from recorded_cores import DEGREES, Cache, compiled, kernels, opened
from torch import Tensor

from .config import InferenceConfig, MoENeuronConfig


class NeuronApplicationBase:
    config_class = InferenceConfig
    moe = False

    def __init__(self, model_path: str, config: InferenceConfig) -> None:
        if type(config) is not self.config_class:
            raise TypeError(f"{type(self).__name__} takes a {self.config_class.__name__}, got {type(config).__name__}")
        neuron: Any = config.neuron_config
        if isinstance(neuron, MoENeuronConfig) != self.moe:
            raise TypeError(f"{type(self).__name__} with a {type(neuron).__name__}")
        if neuron.tp_degree not in DEGREES:
            raise ValueError(f"tp_degree {neuron.tp_degree}")
        assert neuron.max_context_length <= neuron.seq_len
        assert (
            neuron.context_encoding_buckets is None or neuron.context_encoding_buckets[-1] == neuron.max_context_length
        )
        assert neuron.token_generation_buckets is None or neuron.token_generation_buckets[-1] == neuron.seq_len
        self.config, self.neuron_config, self.model_path = config, neuron, model_path
        self._model: Any = None
        shapes = {name: str(value) for name, value in neuron.given.items()} | {"class": type(self).__name__}
        self._kernels = kernels(shapes, neuron.token_generation_buckets or [neuron.seq_len])

    def compile(self, compiled_model_path: str) -> None:
        if not compiled_model_path.endswith("/"):
            raise ValueError(f"{compiled_model_path} and model.pt would become one name")
        folder = Path(compiled_model_path)
        (folder / "neuron_config.json").write_text(json.dumps(self._kernels))
        (folder / "model.pt").write_bytes(b"".join(compiled(self._kernels).values()))
        (folder / "weights").mkdir()
        for rank in range(self.neuron_config.tp_degree):
            (folder / "weights" / f"tp{rank}_sharded_checkpoint.safetensors").write_bytes(str(rank).encode())

    def load(self, compiled_model_path: str) -> None:
        path = compiled_model_path + "model.pt"
        if not Path(path).is_file():
            raise ValueError(f"The provided filename {path} does not exist")
        if Path(path).read_bytes() != "".join(self._kernels).encode():
            raise RuntimeError("the compiled model has other shapes")
        self._model = opened(self.model_path, self.neuron_config.torch_dtype)
        self._cache = Cache(self.neuron_config.tkg_batch_size, self.neuron_config.seq_len)

    def __call__(
        self,
        input_ids: Tensor,
        seq_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        sampling_params: Tensor | None = None,
    ) -> Any:
        """`.logits` (rows, 1, vocabulary): no on_device_sampling_config, so the host chooses the token."""
        if self._model is None:
            raise RuntimeError("Forward called before load")
        assert position_ids is not None and seq_ids is not None
        rows, count = input_ids.shape
        assert position_ids.shape == (rows, count) and seq_ids.shape == (rows,)
        if count > 1:
            assert rows <= self.neuron_config.ctx_batch_size, (
                f"{rows} prompts, ctx_batch_size {self.neuron_config.ctx_batch_size}"
            )
            assert count <= self.neuron_config.max_context_length, f"a prompt of {count} tokens"
        named = dict(zip(seq_ids.tolist(), range(rows), strict=True))
        if count == 1:  # slots that are not named are filled up with token 0 at place 0
            for slot in set(range(self._cache.slots)) - named.keys():
                self._cache.write(slot, 0, 0)
        for slot, row in named.items():
            for place, token in zip(position_ids[row].tolist(), input_ids[row].tolist(), strict=True):
                self._cache.write(slot, place, token)
        last = {slot: int(position_ids[row, -1]) for slot, row in named.items()}
        scores = [self._cache.scores(self._model, slot, 0, last[slot]) for slot in named]
        return SimpleNamespace(logits=torch.stack(scores).unsqueeze(1))
