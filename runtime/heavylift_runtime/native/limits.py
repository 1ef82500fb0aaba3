"""How much one request may ask of a loaded model, and the sentence for one that asks more.

Not how much runs at once: scheduler.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift_runtime.engines.engine import Request, Sampling, text_fault
from heavylift_runtime.native.architectures import Model

LONGEST = 2048
"""Tokens of a source, and of an answer, where nothing says more; an encoder takes memory with the first's square."""
FURTHEST = 32768
"""Tokens of a text where nothing says more; they take address space for every slot, and memory once they are there."""
WIDEST = 32
"""Characters of a token, at most as a mean: megabytes are refused before tokenizing them holds up everybody."""


@dataclass(frozen=True)
class Limits:
    """The most tokens of a prompt, of an answer, and, where one continues the other, of both together."""

    prompt: int
    answer: int
    together: int | None

    @classmethod
    def of(cls, model: Model, longest: int | None) -> Limits:
        """What a model can read, or less where so many tokens, `longest`, are wanted at most."""
        if model.encodes:
            most = LONGEST if longest is None else longest
            return cls(most, most, None)
        most = min(FURTHEST if each is None else each for each in (model.positions, longest))
        return cls(most, most, most)


def request_fault(request: Request, limits: Limits) -> str | None:
    """Why a request cannot be served, or None."""
    prompt, wanted = request.prompt, request.sampling.max_new_tokens
    if not 1 <= wanted <= limits.answer:
        return f"the request asks for {wanted} new tokens; ask for 1 to {limits.answer}"
    if len(prompt) > limits.prompt * WIDEST:
        return f"the prompt has {len(prompt)} characters; at most {limits.prompt * WIDEST} are read, shorten it"
    if isinstance(prompt, str) and (fault := text_fault(prompt)) is not None:
        return fault
    if request.adapter is not None:
        return f"the request names the adapter {request.adapter!r}; this engine has none, leave it out"
    if request.sampling.form is not None:
        return f"this engine binds no answer to a form: got {request.sampling.form.kind}, leave it out"
    return None


def sampling_fault(sampling: Sampling, capacity: int) -> str | None:
    """What of it this engine cannot do, or None."""
    if sampling.num_beams == 1:
        return None
    if sampling.num_beams > capacity:
        return f"the request asks for {sampling.num_beams} beams; at most {capacity} rows run at once, ask for fewer"
    if sampling.temperature != 0:
        return f"a beam search draws no tokens: got the temperature {sampling.temperature}, leave it out"
    return None


def tokens_fault(prompt: list[int], wanted: int, words: int, limits: Limits) -> str | None:
    """Why a tokenized prompt cannot be served by this model, or None."""
    if not prompt:
        return "the prompt has no tokens; send at least one character"
    if len(prompt) > limits.prompt:
        return f"the prompt has {len(prompt)} tokens; at most {limits.prompt} are read, shorten it"
    if strange := [token for token in prompt if not 0 <= token < words]:
        return (
            f"the prompt has the token {strange[0]}, the model knows {words}; "
            "its tokenizer has words that it never learned, leave them out"
        )
    if limits.together is not None and len(prompt) + wanted > limits.together:
        return (
            f"the prompt has {len(prompt)} tokens and asks for {wanted} new ones; "
            f"the model has {limits.together} positions for both together, shorten it or ask for fewer"
        )
    return None
