"""What FasterTransformer's users send: the keyword arguments of `pipeline_generate`, with its meanings and defaults.

Not NVIDIA's kernels, and no schema of its own: these are further names in LMI's `parameters`. Names and defaults:
NVIDIA's FasterTransformer (examples/pytorch/t5, gpt) and djl-serving v0.23's fastertransformer handler. One of NAMES in
a request, or engine=FasterTransformer, brings FasterTransformer's rule of chance: top_k is 1 unless given, so that
`temperature` alone changes nothing. docs/serving.md has the table.
"""

from __future__ import annotations

from typing import Any

from heavylift_runtime.server.schemas.fields import Fields

MAX_SEQ_LEN = 200  # new tokens where neither the request nor the options say: pipeline_generate's own, for T5
LARGEST_SEED = 2**64 - 1
NAMES = (
    "max_seq_len",
    "output_len",
    "beam_width",
    "len_penalty",
    "random_seed",
    "beam_search_diversity_rate",
    "stop_words_list",
    "bad_words_list",
    "is_return_output_log_probs",
    "is_return_cum_log_probs",
    "is_return_cross_attentions",
    "skip_end_tokens",
    "detokenize",
)


def chance(fields: Fields) -> dict[str, Any]:
    """How tokens are drawn, as fields of Sampling. Greedy unless top_k is more than 1, or it is 0 and top_p is not."""
    sample = fields.flag("do_sample")
    temperature = fields.number("temperature", low=0, high=100, default=1.0)
    top_k = fields.whole("top_k", low=0, high=1_000_000, default=0 if sample else 1)
    top_p = fields.number("top_p", low=0, high=1, default=0.0)
    min_p = fields.number("min_p", low=0, high=1, default=0.0)
    seed = fields.whole("random_seed", "seed", "manual_seed", low=0, high=LARGEST_SEED, default=0)
    greedy = sample is False or top_k == 1 or (sample is None and top_k == 0 and top_p == 0)
    if greedy:
        return {"seed": seed}
    return {"temperature": temperature, "top_k": top_k, "top_p": top_p or 1.0, "min_p": min_p, "seed": seed}


def rest(fields: Fields) -> None:
    """What has no effect here, or is answered at its default alone."""
    fields.ignore("batch_size", "padding")
    fields.only("beam_search_diversity_rate", allowed=(0,), why="beams are not kept apart")
    fields.only("bad_words_list", allowed=([],), why="no word is ruled out")
    for name in ("is_return_output_log_probs", "is_return_cum_log_probs", "is_return_cross_attentions"):
        fields.only(name, allowed=(False,), why="'details' and 'logprobs' tell of each token")
    fields.only("skip_end_tokens", "detokenize", allowed=(True,), why="the reply is text without special tokens")
