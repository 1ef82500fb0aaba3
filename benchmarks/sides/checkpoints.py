"""Random weights in published shapes: what a T5-base and a Llama of 350 M parameters read and compute.

Not trained: no text comes out of them. Token t of the vocabulary is spelt `t<t>`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

SPECIAL = {"pad_token": "t0", "eos_token": "t1", "unk_token": "t2"}


def write_t5_base(folder: Path) -> None:
    """223 M parameters: T5 v1.1's layers with a gated GELU (google/t5-v1_1-base's config.json, 32128 tokens), and the
    first T5's one matrix for embedding and head (Raffel et al. 2020).

    Small numbers in that matrix: what a layer gives does not depend on its input's size, and beside random embeddings
    of the usual size it is so little that the next token is always the last one again.
    """
    config = T5Config(
        vocab_size=32128, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12,
        feed_forward_proj="gated-gelu", tie_word_embeddings=True, decoder_start_token_id=0,
    )  # fmt: skip
    _write(folder, T5ForConditionalGeneration, config, torch.float32, embedded=0.02)


def write_llama_350m(folder: Path) -> None:
    """24 layers, 16 heads of which 8 have keys of their own; a head of its own."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=8, max_position_embeddings=2048, tie_word_embeddings=False, pad_token_id=0, bos_token_id=2,
        eos_token_id=1,
    )  # fmt: skip
    _write(folder, LlamaForCausalLM, config, torch.bfloat16)


def _write(
    folder: Path, kind: type, config: T5Config | LlamaConfig, dtype: torch.dtype, *, embedded: float = 1.0
) -> None:
    torch.manual_seed(0)
    model = kind(config).to(dtype)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(embedded)
    model.save_pretrained(folder)
    vocabulary = {f"t{token}": token for token in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
