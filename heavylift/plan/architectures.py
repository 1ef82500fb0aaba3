"""How each family of models is built: which tensors its layers hold, and where its config.json keeps their sizes.

Not the counting (parameters.py). Source of each row: the family's modelling code in Hugging Face transformers 5.23
(https://github.com/huggingface/transformers), checked by building every family without memory and counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Positions = Literal["none", "learned"]
Stack = Literal["decoder", "t5", "bart", "whisper"]

USUAL = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "window": "sliding_window",
    "experts_per_token": "num_experts_per_tok",
    "expert_ffn": "moe_intermediate_size",
}
GPT = {"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "ffn": "n_inner", "positions": "n_positions"}
T5 = {
    "layers": "num_decoder_layers",
    "encoder_layers": "num_layers",
    "hidden": "d_model",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "ffn": "d_ff",
}
BART = {
    "layers": "decoder_layers",
    "hidden": "d_model",
    "heads": "decoder_attention_heads",
    "encoder_heads": "encoder_attention_heads",
    "ffn": "decoder_ffn_dim",
    "encoder_ffn": "encoder_ffn_dim",
}
GEMMA3 = {"heads": 8, "kv_heads": 4, "head_dim": 256, "vocabulary": 262208, "positions": 131072, "window": 4096}


@dataclass(frozen=True)
class Architecture:
    """One `model_type`. The defaults are Llama's: RMSNorm, a gated feed-forward layer, no biases, rotary positions."""

    title: str
    stack: Stack = "decoder"
    keys: Mapping[str, str] = field(default_factory=dict)
    """Our name → the family's key, where it is not the usual one."""
    silent: Mapping[str, int] = field(default_factory=dict)
    """Our name → what the family assumes where config.json is silent."""
    ffn_times: int = 0
    """The feed-forward width over the hidden one where config.json is silent; 0: it must say."""
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    attention_bias_key: str | None = "attention_bias"
    """The flag that gives all four projections a bias, where the family has one."""
    attention_bias_default: bool = False
    attention_bias_output: bool = True
    """Whether that flag speaks of the output's projection, too."""
    mlp_bias_key: str | None = None
    """The flag that gives the feed-forward layer its biases, where the family has one."""
    norms: int = 2
    """Norms of hidden width in a layer."""
    norm_bias: bool = False
    final_norms: int = 1
    qk_norm: bool = False
    qk_norm_key: str | None = None
    """The flag that gives queries and keys their norms, where the family has one."""
    qk_norm_wide: bool = False
    """Such a norm has a number for each position of all heads together, not of one head's."""
    positions: Positions = "none"
    position_rows: int = 0
    """Rows of a learned table beyond the longest context."""
    embedding_norm: bool = False
    head_bias: bool = False
    tied: bool = False
    """Where config.json does not say."""
    window_every: int = 0
    """Of so many layers, all but one are windowed; 1: all are; 0: the family's code has no window of its own."""
    window_flag: str | None = None
    """A flag without which the window is not used."""
    experts_key: str | None = None
    router_bias: bool = False
    expert_bias: bool = False
    mla: bool = False
    rotary: bool = True
    """Positions are rotations of queries and keys."""
    sinks: bool = False
    scalars: int = 0
    """Single numbers in each layer."""


GPT2 = Architecture(
    "GPT-2",
    ffn_times=4,
    rotary=False,
    keys=GPT,
    gated=False,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    norm_bias=True,
    positions="learned",
    tied=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("Llama", mlp_bias_key="mlp_bias"),
    "mistral": Architecture("Mistral", attention_bias_key=None, window_every=1, silent={"window": 0}),
    "qwen2": Architecture("Qwen2", attention_bias_key=None, qkv_bias=True, window_flag="use_sliding_window"),
    "qwen3": Architecture("Qwen3", qk_norm=True, window_flag="use_sliding_window"),
    "phi3": Architecture("Phi-3", attention_bias_key=None, window_every=1),
    "gemma": Architecture("Gemma", tied=True),
    "gemma2": Architecture("Gemma 2", norms=4, tied=True, window_every=2),
    "gemma3_text": Architecture("Gemma 3", norms=4, tied=True, qk_norm=True, window_every=6, silent=GEMMA3),
    "mixtral": Architecture(
        "Mixtral",
        attention_bias_key=None,
        experts_key="num_local_experts",
        window_every=1,
        keys={"expert_ffn": "intermediate_size"},
    ),
    "qwen2_moe": Architecture(
        "Qwen2-MoE", attention_bias_key=None, qkv_bias=True, experts_key="num_experts", window_flag="use_sliding_window"
    ),
    "qwen3_moe": Architecture("Qwen3-MoE", qk_norm=True, experts_key="num_experts", window_flag="use_sliding_window"),
    "gpt_oss": Architecture(
        "gpt-oss",
        attention_bias_default=True,
        experts_key="num_local_experts",
        router_bias=True,
        expert_bias=True,
        sinks=True,
        window_every=2,
        keys={"expert_ffn": "intermediate_size"},
    ),
    "deepseek_v2": Architecture("DeepSeek-V2", mla=True, experts_key="n_routed_experts"),
    "deepseek_v3": Architecture("DeepSeek-V3", mla=True, experts_key="n_routed_experts", router_bias=True),
    "gpt2": GPT2,
    "gptj": Architecture(
        "GPT-J",
        ffn_times=4,
        keys=GPT,
        gated=False,
        mlp_bias=True,
        norms=1,
        norm_bias=True,
        head_bias=True,
        attention_bias_key=None,
    ),
    "gpt_neo": Architecture(
        "GPT-Neo",
        ffn_times=4,
        rotary=False,
        keys={"layers": "num_layers", "heads": "num_heads"},
        gated=False,
        output_bias=True,
        mlp_bias=True,
        norm_bias=True,
        positions="learned",
        tied=True,
        attention_bias_key=None,
    ),
    "gpt_neox": Architecture("GPT-NeoX", gated=False, attention_bias_default=True, mlp_bias=True, norm_bias=True),
    "opt": Architecture(
        "OPT",
        rotary=False,
        keys={"ffn": "ffn_dim"},
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        norm_bias=True,
        positions="learned",
        position_rows=2,
        tied=True,
        attention_bias_key=None,
    ),
    "bloom": Architecture(
        "BLOOM",
        ffn_times=4,
        rotary=False,
        keys={"layers": "n_layer", "heads": "n_head"},
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        norm_bias=True,
        embedding_norm=True,
        tied=True,
        attention_bias_key=None,
    ),
    "falcon": Architecture(
        "Falcon",
        ffn_times=4,
        keys={"ffn": "ffn_hidden_size"},
        gated=False,
        norm_bias=True,
        tied=True,
        attention_bias_key="bias",
    ),
    "phi": Architecture(
        "Phi",
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        norms=1,
        norm_bias=True,
        head_bias=True,
        attention_bias_key=None,
        qk_norm_key="qk_layernorm",
    ),
    "cohere": Architecture("Command R", norms=1, tied=True, qk_norm_key="use_qk_norm", qk_norm_wide=True),
    "cohere2": Architecture("Command R7B and A", norms=1, tied=True, window_every=4, silent={"window": 4096}),
    "olmo": Architecture("OLMo", norms=0, final_norms=0),
    "olmo2": Architecture("OLMo 2", qk_norm=True, qk_norm_wide=True),
    "olmo3": Architecture("OLMo 3", qk_norm=True, qk_norm_wide=True, window_every=4, silent={"window": 4096}),
    "olmoe": Architecture(
        "OLMoE", qk_norm=True, qk_norm_wide=True, experts_key="num_experts", keys={"expert_ffn": "intermediate_size"}
    ),
    "granite": Architecture("Granite", mlp_bias_key="mlp_bias"),
    "granitemoe": Architecture(
        "Granite MoE", experts_key="num_local_experts", keys={"expert_ffn": "intermediate_size"}
    ),
    "starcoder2": Architecture(
        "StarCoder2",
        gated=False,
        norm_bias=True,
        tied=True,
        attention_bias_key="use_bias",
        attention_bias_default=True,
        mlp_bias_key="use_bias",
        window_every=1,
    ),
    "gpt_bigcode": replace(GPT2, title="StarCoder", attention_bias_key=None),
    "stablelm": Architecture(
        "StableLM",
        norm_bias=True,
        attention_bias_key="use_qkv_bias",
        attention_bias_output=False,
        qk_norm_key="qk_layernorm",
        qk_norm_wide=True,
    ),
    "glm": Architecture("GLM", attention_bias_default=True, attention_bias_output=False),
    "glm4": Architecture("GLM-4", norms=4, attention_bias_default=True, attention_bias_output=False),
    "glm4_moe": Architecture(
        "GLM-4.5",
        attention_bias_output=False,
        qk_norm_key="use_qk_norm",
        experts_key="n_routed_experts",
        router_bias=True,
    ),
    "ernie4_5": Architecture("ERNIE 4.5", tied=True, attention_bias_key="use_bias", mlp_bias_key="use_bias"),
    "smollm3": Architecture("SmolLM3", tied=True, mlp_bias_key="mlp_bias", window_flag="use_sliding_window"),
    "seed_oss": Architecture(
        "Seed-OSS", attention_bias_default=True, attention_bias_output=False, mlp_bias_key="mlp_bias"
    ),
    "exaone4": Architecture("EXAONE 4.0", attention_bias_key=None, qk_norm=True, window_every=4),
    "arcee": Architecture("Arcee", gated=False, mlp_bias_key="mlp_bias"),
    "apertus": Architecture("Apertus", gated=False, qk_norm=True, scalars=2),
    "helium": Architecture("Helium", mlp_bias_key="mlp_bias"),
    "mpt": Architecture(
        "MPT",
        ffn_times=4,
        rotary=False,
        keys={"layers": "n_layers", "hidden": "d_model", "heads": "n_heads", "positions": "max_seq_len"},
        gated=False,
        tied=True,
        attention_bias_key=None,
    ),
    "phimoe": Architecture(
        "Phi-3.5-MoE",
        norm_bias=True,
        experts_key="num_local_experts",
        window_every=1,
        keys={"expert_ffn": "intermediate_size"},
    ),
    "minimax_m2": Architecture(
        "MiniMax-M2",
        attention_bias_key=None,
        qk_norm=True,
        qk_norm_wide=True,
        experts_key="num_local_experts",
        router_bias=True,
        keys={"expert_ffn": "intermediate_size"},
    ),
    "llama4_text": Architecture(
        "Llama 4",
        experts_key="num_local_experts",
        keys={
            "ffn": "intermediate_size_mlp",
            "expert_ffn": "intermediate_size",
            "window": "attention_chunk_size",
            "decoder_sparse_step": "interleave_moe_layer_step",
        },
        window_every=4,
    ),
    "t5": Architecture("T5", rotary=False, stack="t5", keys=T5, gated=False, tied=True, attention_bias_key=None),
    "mt5": Architecture("mT5", rotary=False, stack="t5", keys=T5, tied=True, attention_bias_key=None),
    "umt5": Architecture("UMT5", rotary=False, stack="t5", keys=T5, tied=True, attention_bias_key=None),
    "bart": Architecture(
        "BART", rotary=False, stack="bart", keys=BART, gated=False, tied=True, attention_bias_key=None
    ),
    "whisper": Architecture(
        "Whisper", rotary=False, stack="whisper", keys=BART, gated=False, tied=True, attention_bias_key=None
    ),
}
"""By `model_type`. UL2 and FLAN-UL2 say `t5`; Code Llama, Vicuna, Yi and SmolLM say `llama`."""

NESTED = {"llama4": "llama4_text", "gemma3": "gemma3_text", "mistral3": "mistral", "llava": "llama"}
"""`model_type`s of models that also see: the language model is `text_config`, of the type given there, else of this."""
