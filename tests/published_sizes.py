"""Published models of every kind that a plan knows: config.json, and the parameters that their pages say.

Not what our own engine reads of them: published.py. The counts are of https://huggingface.co (safetensors metadata).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIGS = json.loads((Path(__file__).parent / "golden" / "vllm-memory" / "configs.json").read_text())


def decoder(family: str, hidden: int, ffn: int, layers: int, heads: int, words: int, **more: Any) -> dict[str, Any]:
    """A config.json with the usual keys."""
    return {
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": words,
        **more,
    }


def t5(width: int, ffn: int, layers: int, heads: int, head: int = 64, **more: Any) -> dict[str, Any]:
    """A config.json of the T5 family."""
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": width,
        "d_ff": ffn,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "d_kv": head,
        "vocab_size": 32128,
        **more,
    }


FLAN = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
DEEPSEEK_V3 = decoder(
    "deepseek_v3",
    7168,
    18432,
    61,
    128,
    129280,
    num_key_value_heads=128,
    moe_intermediate_size=2048,
    n_shared_experts=1,
    n_routed_experts=256,
    num_experts_per_tok=8,
    first_k_dense_replace=3,
    kv_lora_rank=512,
    q_lora_rank=1536,
    qk_rope_head_dim=64,
    qk_nope_head_dim=128,
    v_head_dim=128,
)
GPT_J = {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "vocab_size": 50400, "n_positions": 2048}
GPT2_XL = {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257, "n_positions": 1024}
BLOOM = {"model_type": "bloom", "hidden_size": 14336, "n_layer": 70, "n_head": 112, "vocab_size": 250880}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 4544,
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "vocab_size": 65024,
}
OPT = decoder("opt", 768, 0, 12, 12, 50272, ffn_dim=3072, max_position_embeddings=2048, word_embed_proj_dim=768)
OPT_350M = {**OPT, "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
OPT_350M |= {"word_embed_proj_dim": 512, "do_layer_norm_before": False}
WHISPER = {
    "model_type": "whisper",
    "d_model": 1280,
    "encoder_layers": 32,
    "decoder_layers": 32,
    "encoder_attention_heads": 20,
    "decoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120,
    "vocab_size": 51866,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}
BART = {
    "model_type": "bart",
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "vocab_size": 50265,
    "max_position_embeddings": 1024,
}
PUBLISHED = {
    "Llama-3.1-8B": (CONFIGS["Llama-3.1-8B"], 8_030_261_248),
    "Llama-3.1-70B": (CONFIGS["Llama-3.3-70B-FP8"], 70_553_706_496),
    "Llama-3.1-405B": (
        decoder("llama", 16384, 53248, 126, 128, 128256, num_key_value_heads=8),
        405_853_388_800,
    ),
    "Mistral-7B-v0.1": (decoder("mistral", 4096, 14336, 32, 32, 32000, num_key_value_heads=8), 7_241_732_096),
    "Mixtral-8x7B": (
        decoder(
            "mixtral", 4096, 14336, 32, 32, 32000, num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2
        ),
        46_702_792_704,
    ),
    "Qwen2.5-7B": (CONFIGS["Qwen2.5-7B"], 7_615_616_512),
    "Qwen3-8B": (CONFIGS["Qwen3-8B"], 8_190_735_360),
    "Qwen3-30B-A3B": (CONFIGS["Qwen3-30B-A3B"], 30_532_122_624),
    "Qwen1.5-MoE-A2.7B": (CONFIGS["Qwen1.5-MoE-A2.7B"], 14_315_784_192),
    "gemma-7b": (decoder("gemma", 3072, 24576, 28, 16, 256000, num_key_value_heads=16, head_dim=256), 8_537_680_896),
    "gemma-2-2b": (CONFIGS["gemma-2-2b"], 2_614_341_888),
    "gemma-2-27b": (CONFIGS["gemma-2-27b"], 27_227_128_320),
    "gemma-3-1b": (
        decoder("gemma3_text", 1152, 6912, 26, 4, 262144, num_key_value_heads=1, head_dim=256, sliding_window=512),
        999_885_952,
    ),
    "Phi-3-mini": (decoder("phi3", 3072, 8192, 32, 32, 32064), 3_821_079_552),
    "phi-4": (CONFIGS["phi-4"], 14_659_507_200),
    "phi-2": (CONFIGS["phi-2"], 2_779_683_840),
    "DeepSeek-V2-Lite": (CONFIGS["DeepSeek-V2-Lite"], 15_706_484_224),
    "DeepSeek-V3": (DEEPSEEK_V3, 671_026_419_200),  # without the layer that predicts two tokens ahead
    "gpt-oss-20b": (CONFIGS["gpt-oss-20b"], 20_914_757_184),
    "gpt-oss-120b": (CONFIGS["gpt-oss-120b"], 116_829_156_672),
    "gpt2-xl": (GPT2_XL, 1_557_611_200),
    "opt-125m": (OPT, 125_239_296),
    "opt-350m": (OPT_350M, 331_196_416),
    "bloom": (BLOOM, 176_247_271_424),
    "gpt-j-6b": (GPT_J, 6_050_882_784),
    "gpt-neox-20b": (decoder("gpt_neox", 6144, 24576, 44, 64, 50432), 20_554_567_680),
    "falcon-7b": (FALCON, 6_921_720_704),
    "t5-base": (t5(768, 3072, 12, 12), 222_903_552),
    "flan-t5-base": (t5(768, 2048, 12, 12, **FLAN), 247_577_856),
    "flan-t5-xxl": (t5(4096, 10240, 24, 64, **FLAN), 11_135_332_352),
    "bart-large": (BART, 406_291_456),
    "whisper-large-v3": (WHISPER, 1_543_490_560),
}
"""config.json, and the number of parameters on the model's page."""
