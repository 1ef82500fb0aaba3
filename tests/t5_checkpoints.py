"""Random T5 checkpoints in a folder, as transformers writes them and as older releases and converters wrote them.

Not a fake: every one is a whole model, and transformers' own forward pass is the oracle of the tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import T5Config, T5ForConditionalGeneration

SMALL: dict[str, Any] = {
    "vocab_size": 61, "d_model": 24, "d_kv": 6, "d_ff": 36, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "initializer_factor": 1.0,
}  # fmt: skip
"""d_kv * num_heads equals d_model here; tests that want them to differ say so."""


def write_t5(folder: Path, *, tied: bool = False, seed: int = 0, **config: Any) -> Path:
    """A random T5 in `folder`, in the layout of FLAN-T5 (own head) or of the first T5 (`tied`, scaled)."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = T5ForConditionalGeneration(T5Config(**{**SMALL, **config}, tie_word_embeddings=tied))
    with torch.no_grad():
        for parameter in model.parameters():  # norms of 1 and tiny queries would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    edit_config(folder, tie_word_embeddings=tied, scale_decoder_outputs=None)
    if not tied:
        head = torch.randn(model.config.vocab_size, model.config.d_model)
        edit_tensors(folder, lambda tensors: tensors | {"lm_head.weight": head})
    write_tokenizer(folder, model.config.vocab_size)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes keys of config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_tensors(folder: Path, edit: Any) -> None:
    """Rewrites model.safetensors with the tensors that `edit` makes of the old ones."""
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def write_tokenizer(folder: Path, size: int) -> None:
    """One token for each of `size` - 3 letters; ends every text with </s>."""
    letters = {chr(ord("0") + place): place + 3 for place in range(size - 3)}
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, **letters}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def oracle(folder: Path) -> T5ForConditionalGeneration:
    """transformers' model of the folder, in fp32."""
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    assert isinstance(model, T5ForConditionalGeneration)
    return model.eval()
