"""The host's part: memory while weights are loaded, and the 60 seconds that one answer may take. Not a copy's memory.

SageMaker: a container must answer an invocation within 60 seconds
(https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html).
"""

from __future__ import annotations

GIB = 2**30
INVOCATION_SECONDS = 60
SHARD_FACTOR, TOKENIZER = 1.1, 4 * GIB
WHOLE_ON_HOST = ("accelerate", "deepspeed", "fastertransformer", "neuronx", "script")
"""Engines that hold all weights in the host's memory before they split or convert them."""


def loading_bytes(engine: str, weights: int, largest_file: int) -> tuple[int, str]:
    """Host memory that loading takes on an accelerated instance, and its arithmetic."""
    if engine in WHOLE_ON_HOST:
        return weights + TOKENIZER, f"{weights} bytes of weights at once + {TOKENIZER / GIB:g} GiB"
    return (
        int(SHARD_FACTOR * largest_file) + TOKENIZER,
        f"{SHARD_FACTOR} · {largest_file} bytes, the largest file, + {TOKENIZER / GIB:g} GiB",
    )


def invocation_faults(first_token: float, each_token: float, new_tokens: int, *, streams: bool) -> list[str]:
    """Seconds to the first token and between two; an answer that streams may take longer than a whole one."""

    def seconds(tokens: int) -> float:
        return first_token + each_token * max(0, tokens - 1)

    total = seconds(new_tokens)
    if first_token > INVOCATION_SECONDS:
        return [f"the first token takes {first_token:.1f} s; SageMaker ends an invocation after {INVOCATION_SECONDS} s"]
    if streams or total <= INVOCATION_SECONDS:
        return []
    fitting = int((INVOCATION_SECONDS - first_token) / each_token) + 1
    if seconds(fitting) > INVOCATION_SECONDS:  # the division was rounded up
        fitting -= 1
    return [
        f"{new_tokens} tokens take {total:.1f} s, and SageMaker ends an invocation after {INVOCATION_SECONDS} s: "
        f"stream the answer, or allow at most {fitting} new tokens"
    ]
