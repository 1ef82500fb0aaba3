"""Qwen2 of NxD Inference."""

from __future__ import annotations

from ..application_base import NeuronApplicationBase
from ..config import InferenceConfig


class Qwen2InferenceConfig(InferenceConfig): ...


class NeuronQwen2ForCausalLM(NeuronApplicationBase):
    config_class = Qwen2InferenceConfig
