"""Random checkpoints of every decoder-only family in a folder, as transformers writes them, and transformers on them.

Not a fake: every one is a whole model with biases and norms off their starting values, which would hide mistakes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.t5_checkpoints import write_tokenizer

LLAMA: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
SMALL_OPT: dict[str, Any] = {
    "hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256,
}  # fmt: skip
NEOX: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256,
}  # fmt: skip
GPT2: dict[str, Any] = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 256}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "llama-tied-wide-biased": ("Llama", {**LLAMA, "tie_word_embeddings": True, "head_dim": 10, "attention_bias": True,
                                         "mlp_bias": True, "num_key_value_heads": 4}),
    "llama-3.1": ("Llama", {**LLAMA, "hidden_size": 32, "num_attention_heads": 8, "rope_parameters": LLAMA3}),
    "mistral-window": ("Mistral", {**LLAMA, "sliding_window": 9}),
    "qwen2": ("Qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", {**LLAMA, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 8, "num_key_value_heads": 1}),
    "mixtral": ("Mixtral", {**LLAMA, "num_local_experts": 5, "num_experts_per_tok": 2}),
    "gpt2": ("GPT2", GPT2),
    "gpt2-inner-untied": ("GPT2", {**GPT2, "n_inner": 52, "tie_word_embeddings": False}),
    "gptj": ("GPTJ", {**GPT2, "n_embd": 32, "rotary_dim": 4}),
    "gpt-neox": ("GPTNeoX", NEOX),
    "gpt-neox-sequential": ("GPTNeoX", {**NEOX, "use_parallel_residual": False, "attention_bias": False,
                                        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 900.0,
                                                            "partial_rotary_factor": 0.5}}),
    "opt": ("OPT", SMALL_OPT),
    "opt-350m": ("OPT", {**SMALL_OPT, "word_embed_proj_dim": 12, "do_layer_norm_before": False}),
    "bloom": ("Bloom", {"hidden_size": 24, "n_layer": 2, "n_head": 4}),
    "bloom-six-heads": ("Bloom", {"hidden_size": 24, "n_layer": 2, "n_head": 6}),
}  # fmt: skip
"""Kind → transformers' name of the family, and what its config says."""


def write_decoder(folder: Path, family: str, *, seed: int = 0, **config: Any) -> Path:
    """A random model of one of transformers' families, such as "Llama", with a tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    name = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    given = {"vocab_size": 61, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.2}
    model = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**{**given, **config}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    write_tokenizer(folder, model.config.vocab_size)
    return folder


def oracle(folder: Path) -> transformers.PreTrainedModel:
    """transformers' model of the folder, in fp32, with its plainest attention."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    assert isinstance(model, transformers.PreTrainedModel)
    return model.eval()


@torch.inference_mode()
def logits_of(model: Any, tokens: list[int]) -> Tensor:
    """(T, V): transformers' logits of one text alone."""
    logits: Tensor = model(input_ids=torch.tensor([tokens])).logits[0]
    return logits


@torch.inference_mode()
def continuation(model: Any, prompt: list[int], count: int) -> list[int]:
    """transformers' greedy continuation of one prompt alone; shorter than `count` where it ends with </s>."""
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def gap(model: Any, tokens: list[int]) -> float:
    """How far transformers' two likeliest next tokens are apart."""
    first, second = logits_of(model, tokens)[-1].topk(2).values.tolist()
    return first - second
