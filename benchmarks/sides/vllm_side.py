"""vLLM's offline engine, as its CPU build runs it."""

from __future__ import annotations

from typing import Any

import vllm
from protocol import Generate, main


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    model = vllm.LLM(
        model=settings["folder"], dtype={"bf16": "bfloat16", "fp32": "float32"}[settings["dtype"]],
        skip_tokenizer_init=True, max_model_len=256, disable_log_stats=True, enable_prefix_caching=False,
    )  # fmt: skip

    def generate(prompts: list[list[int]], tokens: int) -> int:
        wanted = vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        answers = model.generate([{"prompt_token_ids": each} for each in prompts], wanted, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    return generate, f"vllm {vllm.__version__}"


if __name__ == "__main__":  # vLLM starts processes that import this file
    main(side)
