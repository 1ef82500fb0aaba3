"""Llama of NxD Inference."""

from __future__ import annotations

from ..application_base import NeuronApplicationBase
from ..config import InferenceConfig


class LlamaInferenceConfig(InferenceConfig): ...


class NeuronLlamaForCausalLM(NeuronApplicationBase):
    config_class = LlamaInferenceConfig
