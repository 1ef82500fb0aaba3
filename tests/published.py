"""Published decoder-only models: the fields of config.json that shape them, and the parameters that their pages say.

Not the models: only sizes. Each is https://huggingface.co/<name>, whose page counts its safetensors' numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Published(NamedTuple):
    """A model's config.json and its number of parameters."""

    parameters: int
    config: dict[str, Any]


def _llama(kind: str, width: int, inner: int, layers: int, heads: int, pairs: int, words: int, **more: Any) -> Any:
    return {
        "model_type": kind, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": pairs, "vocab_size": words, **more,
    }  # fmt: skip


def _gpt2(kind: str, width: int, layers: int, heads: int, words: int, **more: Any) -> Any:
    return {"model_type": kind, "n_embd": width, "n_layer": layers, "n_head": heads, "vocab_size": words, **more}


def _opt(width: int, inner: int, layers: int, heads: int, **more: Any) -> Any:
    return {
        "model_type": "opt", "hidden_size": width, "ffn_dim": inner, "num_hidden_layers": layers, "vocab_size": 50272,
        "num_attention_heads": heads, "max_position_embeddings": 2048, "word_embed_proj_dim": width, **more,
    }  # fmt: skip


def _neox(width: int, inner: int, layers: int, heads: int, words: int) -> Any:
    return {
        "model_type": "gpt_neox", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "vocab_size": words, "rotary_pct": 0.25, "rotary_emb_base": 10000,
    }  # fmt: skip


STRETCHED = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
LLAMA3 = {"rope_theta": 500000.0, "rope_scaling": STRETCHED, "max_position_embeddings": 131072}
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": Published(
        6_738_415_616, _llama("llama", 4096, 11008, 32, 32, 32, 32000, rope_scaling=None)
    ),
    "meta-llama/Llama-3.1-8B": Published(8_030_261_248, _llama("llama", 4096, 14336, 32, 32, 8, 128256, **LLAMA3)),
    "meta-llama/Llama-3.1-70B": Published(70_553_706_496, _llama("llama", 8192, 28672, 80, 64, 8, 128256, **LLAMA3)),
    "meta-llama/Llama-3.2-1B": Published(
        1_235_814_400,
        _llama("llama", 2048, 8192, 16, 32, 8, 128256, **LLAMA3, head_dim=64, tie_word_embeddings=True),
    ),
    "mistralai/Mistral-7B-v0.1": Published(
        7_241_732_096, _llama("mistral", 4096, 14336, 32, 32, 8, 32000, sliding_window=4096)
    ),
    "Qwen/Qwen2-0.5B": Published(
        494_032_768, _llama("qwen2", 896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True, use_sliding_window=False)
    ),
    "Qwen/Qwen2.5-7B": Published(
        7_615_616_512, _llama("qwen2", 3584, 18944, 28, 28, 4, 152064, sliding_window=131072, max_window_layers=28)
    ),
    "Qwen/Qwen3-0.6B": Published(
        596_049_920, _llama("qwen3", 1024, 3072, 28, 16, 8, 151936, head_dim=128, tie_word_embeddings=True)
    ),
    "Qwen/Qwen3-8B": Published(8_190_735_360, _llama("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128)),
    "mistralai/Mixtral-8x7B-v0.1": Published(
        46_702_792_704, _llama("mixtral", 4096, 14336, 32, 32, 8, 32000, num_local_experts=8, num_experts_per_tok=2)
    ),
    "openai-community/gpt2": Published(124_439_808, _gpt2("gpt2", 768, 12, 12, 50257, n_ctx=1024, n_positions=1024)),
    "openai-community/gpt2-xl": Published(1_557_611_200, _gpt2("gpt2", 1600, 48, 25, 50257)),
    "EleutherAI/gpt-j-6b": Published(6_050_882_784, _gpt2("gptj", 4096, 28, 16, 50400, rotary_dim=64)),
    "EleutherAI/gpt-neox-20b": Published(20_554_567_680, _neox(6144, 24576, 44, 64, 50432)),
    "EleutherAI/pythia-70m": Published(70_426_624, _neox(512, 2048, 6, 8, 50304)),
    "facebook/opt-125m": Published(125_239_296, _opt(768, 3072, 12, 12)),
    "facebook/opt-350m": Published(
        331_196_416, _opt(1024, 4096, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False)
    ),
    "facebook/opt-1.3b": Published(1_315_758_080, _opt(2048, 8192, 24, 32)),
    "bigscience/bloom-560m": Published(
        559_214_592,
        {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880},
    ),
    "bigscience/bloom": Published(
        176_247_271_424,
        {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880},
    ),
}
