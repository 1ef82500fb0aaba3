"""Prompts of given lengths, made from a seed: for engines whose speed is asked for, not their answers.

Not natural text, and without right answers: words of common English syllables, so that a token is a fraction of a word.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError

SYLLABLES = "ba ca de fo gi ha ju ka lo ma ne pa qui ro sa te un vo wi ya zen".split()
FIELDS = {"prompt_words": Field(list), "new_tokens": Field(list)}
OPTIONAL = {"shared_prefix_words": Field(int, least=0, most=100_000), "prompts": Field(int, least=1, most=10_000)}


def synthetic_lines(document: Any, seed: int) -> bytes:
    """JSON lines of a workload. `prompt_words` and `new_tokens` are [least, most], drawn evenly; every prompt begins
    with the same `shared_prefix_words` words, which count as its own. Raises FormatError."""
    found = shape.faults(document, FIELDS, "workload.synthetic", OPTIONAL)
    for key, most in () if found else (("prompt_words", 100_000), ("new_tokens", 1024)):
        pair = document[key]
        if len(pair) != 2 or any(type(each) is not int for each in pair) or not 1 <= pair[0] <= pair[1] <= most:
            found.append(f"workload.synthetic.{key} is {pair}; it must be [least, most] from 1 to {most}")
    if found:
        raise FormatError(found)
    rng = Random(f"synthetic/{seed}")
    prefix = [_word(rng) for _ in range(document.get("shared_prefix_words", 0))]
    lines = []
    for _ in range(document.get("prompts", 256)):
        words = max(rng.randint(*document["prompt_words"]), len(prefix) + 1)
        text = " ".join([*prefix, *(_word(rng) for _ in range(words - len(prefix)))])
        line = {"task": "synthetic", "input": text, "new_tokens": rng.randint(*document["new_tokens"])}
        lines.append(json.dumps(line) + "\n")
    return "".join(lines).encode()


def made_up(words: int, seed: str) -> str:
    """A prompt of so many words."""
    rng = Random(f"made-up/{seed}")
    return " ".join(_word(rng) for _ in range(words))


def _word(rng: Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3)))
