"""How a checkpoint wants its tokens to be chosen: generation_config.json, as transformers reads it. No torch.

Not how they are chosen (native/sampling.py), nor the tokens that begin and end an answer (native/text.py).
https://huggingface.co/docs/transformers/main_classes/text_generation has the names, their meanings and their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

FILE = "generation_config.json"
KEY = "generation_config"
"""The option: `auto`, the default, follows the file; `vllm` does not. The words are vLLM's."""
SETTINGS = (FILE, "config.json")
"""Where it is looked up: in the first of them that there is."""
FOLLOWING = ("native", "vllm", "accelerate", "deepspeed")
"""Engines whose requests get what the file says, where they do not say it themselves."""


def followed(properties: Mapping[str, str], engine: str) -> bool:
    """Whether the file is; ValueError for a word that is none. A folder is vLLM's own matter."""
    word = properties.get(KEY, "auto")
    if word not in ("auto", "vllm") and engine in FOLLOWING and engine != "vllm":
        raise ValueError(
            f"option.{KEY} must be 'auto', which follows the checkpoint's file, or 'vllm', which does not: got {word!r}"
        )
    return word == "auto" and engine in FOLLOWING


@dataclass(frozen=True)
class Manner:
    """What a request gets that does not say otherwise; None: its schema's own default."""

    temperature: float | None = None
    """Of requests that draw tokens."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_new_tokens: int | None = None
    length_penalty: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Manner:
        """ValueError with every fault, one on a line."""
        return cls(**_read(settings, {each.name: _RANGES[each.name] for each in fields(cls)}))


@dataclass(frozen=True)
class Rules:
    """What no request can ask for, and holds for all of them."""

    no_repeat_ngram_size: int | None = None
    """So many tokens in a row come once only, prompt and answer together, or, with an encoder, in the answer."""
    min_length: int | None = None
    """Tokens of prompt and answer before which it does not end; with an encoder, of the answer and its start."""
    forced_bos_token_id: int | None = None
    """Comes after a text of one token, which an answer's start is."""
    forced_eos_token_id: int | None = None
    """Comes last, where an answer is as long as it may become."""
    suppress_tokens: tuple[int, ...] = ()
    """Never come."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Do not come first."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Rules:
        """ValueError with every fault, one on a line."""
        found = _read(settings, {each.name: _RANGES[each.name] for each in fields(cls)})
        return cls(**{name: value for name, value in found.items() if value is not None})

    @property
    def bind(self) -> bool:
        """They ask for anything."""
        asked = (self.no_repeat_ngram_size, self.min_length, self.suppress_tokens, self.begin_suppress_tokens)
        return any(asked) or (self.forced_bos_token_id, self.forced_eos_token_id) != (None, None)


Range = tuple[type, float, float, str]
_TOKEN: Range = (int, 0, 2**31 - 1, "a token, a whole number from 0")
_TOKENS: Range = (tuple, 0, 2**31 - 1, "a list of tokens, whole numbers from 0")
_COUNT: Range = (int, 0, 2**31 - 1, "a whole number from 0")
_RANGES: Mapping[str, Range] = {
    "temperature": (float, 0, 100, "a number from 0 to 100"),
    "top_k": _COUNT,
    "top_p": (float, 1e-9, 1, "a number above 0, and at most 1"),
    "min_p": (float, 0, 1, "a number from 0 to 1"),
    "repetition_penalty": (float, 1e-9, 100, "a number above 0, and at most 100"),
    "min_new_tokens": _COUNT,
    "length_penalty": (float, -10, 10, "a number from -10 to 10"),
    "no_repeat_ngram_size": _COUNT,
    "min_length": _COUNT,
    "forced_bos_token_id": _TOKEN,
    "forced_eos_token_id": _TOKEN,
    "suppress_tokens": _TOKENS,
    "begin_suppress_tokens": _TOKENS,
}


def _read(settings: Mapping[str, Any], ranges: Mapping[str, Range]) -> dict[str, Any]:
    found, faults = dict[str, Any](), []
    for name, (kind, low, high, words) in ranges.items():
        given = settings.get(name)
        if given is None:
            continue
        each = given if kind is tuple and isinstance(given, list) else [given]
        whole = all(type(value) is int or (kind is float and type(value) is float) for value in each)
        if not whole or (kind is tuple and not isinstance(given, list)) or not all(low <= v <= high for v in each):
            faults.append(f"{FILE}: {name!r} must be {words}: got {given!r}")
            continue
        found[name] = tuple(given) if kind is tuple else kind(given)
    if faults:
        raise ValueError("\n".join(faults))
    return found
