"""Qwen3 of NxD Inference."""

from __future__ import annotations

from ..application_base import NeuronApplicationBase
from ..config import InferenceConfig


class Qwen3InferenceConfig(InferenceConfig): ...


class NeuronQwen3ForCausalLM(NeuronApplicationBase):
    config_class = Qwen3InferenceConfig
