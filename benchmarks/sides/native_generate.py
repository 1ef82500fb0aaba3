"""The native engine's greedy answers to prompts of tokens, all at once.

Not a program: native_side.py and native_ranks_side.py are.
"""

from __future__ import annotations

from protocol import Generate

from heavylift_runtime.engines.engine import Engine, Request, Sampling


def generate_with(engine: Engine) -> Generate:
    """Answers of exactly so many tokens."""

    def generate(prompts: list[list[int]], tokens: int) -> int:
        for key, prompt in enumerate(prompts):
            engine.add(key, Request(tuple(prompt), Sampling(tokens, ignore_eos=True)))
        count = 0
        while engine.busy:
            for piece in engine.step():
                assert piece.error is None, piece.error
                count += piece.generated_tokens if piece.finish_reason is not None else 0
        return count

    return generate
