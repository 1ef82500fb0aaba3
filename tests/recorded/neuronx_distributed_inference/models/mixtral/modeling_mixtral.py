"""Mixtral of NxD Inference."""

from __future__ import annotations

from ..application_base import NeuronApplicationBase
from ..config import InferenceConfig


class MixtralInferenceConfig(InferenceConfig): ...


class NeuronMixtralForCausalLM(NeuronApplicationBase):
    config_class = MixtralInferenceConfig
    moe = True
