"""Hugging Face transformers' generate."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from protocol import Generate, main

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    config = transformers.AutoConfig.from_pretrained(settings["folder"])
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(settings["folder"], dtype=DTYPES[settings["dtype"]]).eval()

    def generate(prompts: list[list[int]], tokens: int) -> int:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            answers = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=tokens,
                max_new_tokens=tokens, pad_token_id=0,
            )  # fmt: skip
        new = answers.shape[1] - (1 if config.is_encoder_decoder else ids.shape[1])
        return len(prompts) * new

    return generate, f"transformers {transformers.__version__}, torch {torch.__version__}"


main(side)
