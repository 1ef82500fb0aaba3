"""The classes for sampling of Transformers NeuronX 0.13; see README.md beside this package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from recorded_cores import DEGREES, Cache, compiled, kernels, opened, rounded
from torch import Tensor

from .config import ContinuousBatchingConfig, NeuronConfig, QuantizationConfig

__all__ = ["ContinuousBatchingConfig", "NeuronAutoModelForCausalLM", "NeuronConfig", "QuantizationConfig"]
AMP = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def token_sizes(sizes: list[int] | int) -> list[int]:
    if isinstance(sizes, list):
        return sorted(sizes)
    found, size = [], 128
    while size < sizes:
        found.append(size)
        size *= 2
    return [*found, sizes]


class Sampling:
    """What the classes have in common: from_pretrained, (load,) to_neuron, forward, save."""

    takes: tuple[str, ...] = ("context_length_estimate", "context_unroll", "unroll", "neuron_config")
    continuous, saves, ragged, lists, pads = False, True, True, False, False

    def __init__(
        self,
        place: str,
        config: Any,
        *,
        n_positions: Any = 2048,
        batch_size: int = 1,
        amp: str = "f32",
        tp_degree: int = 2,
        **more: Any,
    ) -> None:
        for name in more:
            if name not in self.takes:
                raise KeyError(f'Found invalid key "{name}".')
        if isinstance(n_positions, list) and not self.lists:
            raise TypeError("'>' not supported between instances of 'list' and 'int'")
        if type(batch_size) is not int:
            raise TypeError("batch_size must be list of ints or int type")
        if tp_degree not in DEGREES or (config.num_attention_heads % tp_degree and not self.pads):
            raise ValueError(f"{config.num_attention_heads} heads over tp_degree {tp_degree}")
        self.config, self.batch_size, self._place, self._amp = config, batch_size, place, amp
        self.token_buckets = token_sizes(n_positions)
        most = getattr(config, "max_position_embeddings", None)
        if most is not None and self.token_buckets[-1] > most:
            longest = self.token_buckets[-1]
            raise ValueError(f"Sequence length ({longest}) cannot be larger than position embedding's ({most})!")
        given = more.get("context_length_estimate")
        if given is None:
            self.context_buckets = [each // 2 for each in self.token_buckets]
        else:
            self.context_buckets = sorted(given) if isinstance(given, list) else [given]
        self.neuron_config = more.get("neuron_config") or NeuronConfig()
        batching = self.neuron_config.continuous_batching
        if batching is not None:
            assert self.continuous, f"{type(self)} doesn't support dynamic batching."
            assert batching.batch_size_for_shared_caches == batch_size
        if self.neuron_config.quant is not None and self.neuron_config.quant.dequant_dtype != amp:
            raise ValueError("when using quantization, amp type must match dequant type")
        shapes = {
            "class": type(self).__name__, "batch": batch_size, "amp": amp, "tp": tp_degree,
            "hidden": config.hidden_size,
            "context": self.context_buckets, "flags": os.environ.get("NEURON_CC_FLAGS", ""),
            "quant": self.neuron_config.quant is not None,
        }  # fmt: skip
        self._kernels = kernels(shapes, self.token_buckets)
        self._neffs: dict[str, bytes] | None = None
        self._artifacts: Path | None = None
        self._model: Any = None

    @classmethod
    def from_pretrained(cls, place: str, **given: Any) -> Any:
        return cls(place, transformers.AutoConfig.from_pretrained(place), **given)

    def load(self, directory: str) -> None:
        assert self.saves, "serialization is not enabled for this model"
        assert self._model is None, "load() after to_neuron() loads nothing"
        self._artifacts = Path(directory)

    def to_neuron(self) -> None:
        assert self._model is None, "to_neuron() was called before"
        if self._artifacts is None:
            self._neffs = compiled(self._kernels)
        else:
            if not self._artifacts.is_dir():
                raise FileNotFoundError(f"Did not find directory: {self._artifacts}.")
            if missing := [name for name in self._kernels if not (self._artifacts / name).is_file()]:
                raise FileNotFoundError(f"Could not find a matching NEFF for your HLO in this directory. {missing}")
            self._neffs = {name: (self._artifacts / name).read_bytes() for name in self._kernels}
        self._model = opened(self._place, AMP[self._amp])
        if self.neuron_config.quant is not None:
            rounded(self._model)
        self._cache = Cache(self.batch_size, self.token_buckets[-1])

    def save(self, directory: str) -> None:
        assert self.saves, "serialization is not enabled for this model"
        assert self._neffs is not None, "cannot save a model which has not been successfully compiled"
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name, content in self._neffs.items():
            (Path(directory) / name).write_bytes(content)

    def reset(self) -> None:
        self._cache.clear()

    def __call__(self, input_ids: Tensor, cache_ids: Tensor, start_ids: Tensor | None = None) -> Tensor:
        """Scores (rows, vocabulary) after the last token of each row."""
        if self._model is None:
            raise AttributeError("'NoneType' object has no attribute 'buffers': call to_neuron() first")
        if self.neuron_config.continuous_batching is not None:
            assert start_ids is not None
            return self._slots(input_ids, cache_ids, start_ids)
        return self._batch(input_ids, cache_ids, start_ids)

    def _batch(self, input_ids: Tensor, cache_ids: Tensor, start_ids: Tensor | None) -> Tensor:
        rows, count = input_ids.shape
        if rows != self.batch_size:
            raise ValueError(f"Model not compiled for batch_size : {rows}. Acceptable is {self.batch_size}")
        assert cache_ids.shape == (count,), "cache_ids are one place for all rows"
        starts = [0] * rows if start_ids is None or not self.ragged else start_ids.tolist()
        for row in range(rows):
            for place, token in zip(cache_ids.tolist(), input_ids[row].tolist(), strict=True):
                self._cache.write(row, place, token)
        last = int(cache_ids[-1])
        return torch.stack([self._cache.scores(self._model, row, starts[row], last) for row in range(rows)]).float()

    def _slots(self, input_ids: Tensor, cache_ids: Tensor, seq_ids: Tensor) -> Tensor:
        rows, count = input_ids.shape
        assert cache_ids.shape == (rows, count), f"invalid n_active_seqs ({rows} vs {cache_ids.shape[0]})"
        if count > 1 and int(cache_ids.flatten()[0]) == 0:
            assert rows == 1, "input batch size not equal to running batch size (1)"
            most = self.context_buckets[-1]
            assert count <= most, f"invalid input prompt length ({count} <= {most})"
            slot = int(seq_ids[0])
            for place, token in zip(cache_ids[0].tolist(), input_ids[0].tolist(), strict=True):
                self._cache.write(slot, place, token)
            return self._cache.scores(self._model, slot, 0, count - 1).float().unsqueeze(0)
        assert count == 1, "several tokens after the first are a speculative forward, which was not compiled"
        tokens, places = [0] * self.batch_size, [0] * self.batch_size
        for number, slot in enumerate(seq_ids.flatten().tolist()):
            tokens[slot], places[slot] = int(input_ids[number, 0]), int(cache_ids[number, 0])
        for slot in range(self.batch_size):  # a slot that is not named gets token 0 at place 0, as on the device
            self._cache.write(slot, places[slot], tokens[slot])
        scores = [self._cache.scores(self._model, slot, 0, places[slot]) for slot in seq_ids.flatten().tolist()]
        return torch.stack(scores).float()


class BloomForSampling(Sampling): ...


class GPT2ForSamplingWithContextBroadcasting(Sampling): ...


class OPTForSampling(Sampling): ...


class MixtralForSampling(Sampling):
    pads = True


class GPTJForSampling(Sampling):
    """Its forward has start_ids and does not look at them."""

    takes = ("unroll", "init_n_active_tokens")
    saves, ragged = False, False


class GPTNeoXForSampling(Sampling):
    takes = ("unroll", "init_n_active_tokens", "neuron_config")
    saves = False

    def __init__(self, place: str, config: Any, **given: Any) -> None:
        if not config.use_parallel_residual:
            raise NotImplementedError("use_parallel_residual=False is not yet implemented")
        if given.get("unroll") is not None:
            raise NotImplementedError(f"unroll={given['unroll']} is not yet implemented")
        super().__init__(place, config, **given)
        if self.neuron_config.quant is not None:
            raise NotImplementedError("Support for quantization is not yet implemented")


class LlamaForSampling(Sampling):
    takes = (*Sampling.takes, "prefixed_length")
    continuous, lists, pads = True, True, True


class MistralForSampling(LlamaForSampling): ...


MODELS = {
    "bloom": BloomForSampling, "gpt2": GPT2ForSamplingWithContextBroadcasting, "gpt_neox": GPTNeoXForSampling,
    "gptj": GPTJForSampling, "llama": LlamaForSampling, "mistral": MistralForSampling, "mixtral": MixtralForSampling,
    "opt": OPTForSampling,
}  # fmt: skip


class NeuronAutoModelForCausalLM:
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **given: Any) -> Any:
        kind = transformers.AutoConfig.from_pretrained(pretrained_model_name_or_path).model_type
        if kind not in MODELS:
            raise AssertionError(f"The configuration model type '{kind}' is not supported by Neuron")
        return MODELS[kind].from_pretrained(pretrained_model_name_or_path, **given)
