"""Text to tokens and back, through the checkpoint's own tokenizer. On rank 0 only.

Not a tokenizer of its own (the `tokenizers` library is), and it adds no prefix and cuts nothing off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from heavylift_runtime.errors import LoadError
from heavylift_runtime.manner import FILE, KEY, Manner, Rules, followed
from heavylift_runtime.native.checkpoint import TOKENIZER, Checkpoint
from heavylift_runtime.native.older_tokenizer import PIECES, WORDS, made_of

OLDER = (PIECES, "tokenizer.model", WORDS)
"""Of a tokenizer in another form."""

UNREAD: dict[str, tuple[object, ...]] = {
    "do_sample": (False,), "typical_p": (1,), "epsilon_cutoff": (0,), "eta_cutoff": (0,), "top_h": (),
    "num_beams": (1,), "early_stopping": (False,), "num_beam_groups": (1,), "penalty_alpha": (), "guidance_scale": (1,),
    "encoder_repetition_penalty": (1,), "encoder_no_repeat_ngram_size": (0,), "exponential_decay_length_penalty": (),
    "bad_words_ids": ([],), "sequence_bias": ({},), "stop_strings": ([],), "max_new_tokens": (), "max_length": (20,),
}  # fmt: skip
"""What transformers' `generate` would take from generation_config.json, and manner.py does not, for it is a request's
or the options' to say, or no engine here does it → the values at which it asks for nothing."""


def unread(settings: Mapping[str, Any]) -> list[str]:
    """Names of what a checkpoint says of how its tokens shall be chosen, and nothing here follows."""
    return [name for name, none in UNREAD.items() if settings.get(name) not in (None, *none)]


def rules_of(checkpoint: Checkpoint, properties: Mapping[str, str], engine: str) -> Rules:
    """What the checkpoint asks of all answers, where its file is followed; LoadError with every fault at once."""
    try:
        if not followed(properties, engine):
            return Rules()
        rules, _ = Rules.of(checkpoint.manner()), Manner.of(checkpoint.manner())
    except ValueError as error:
        raise LoadError(f"{checkpoint.source.place} {error}") from error
    words = next(iter(checkpoint.family.weights(checkpoint.config))).shape[0]
    tokens = {
        rules.forced_bos_token_id,
        rules.forced_eos_token_id,
        *rules.suppress_tokens,
        *rules.begin_suppress_tokens,
    }
    if strange := [token for token in tokens if token is not None and token >= words]:
        raise LoadError(
            f"{checkpoint.source.place} {FILE}: names the token {strange[0]}, and the model knows {words}; "
            f"mend it, or set option.{KEY}=vllm, which leaves the file unread"
        )
    return rules


class Text:
    """The tokenizer of one checkpoint, without the padding and truncation that its file may ask for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tokenizer = _tokenizer(checkpoint)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, the end-of-sequence token included where the tokenizer adds it."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def word(self, token: int) -> str:
        """One token's text by itself, special ones as they are written."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Out of tokenizer.json, or of the files that older checkpoints have instead."""
    sizes, place, name = checkpoint.sizes, checkpoint.source.place, TOKENIZER
    try:
        if TOKENIZER in sizes:
            return Tokenizer.from_buffer(checkpoint.small(TOKENIZER))
        name = "tokenizer"
        found = made_of(str(checkpoint.config["model_type"]), sizes.__contains__, checkpoint.small)
    except LoadError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise LoadError(f"{place} {name}: is no tokenizer: {error}") from error
    if found is None:
        older = next((file for file in OLDER if file in sizes), None)
        there = "" if older is None else f"{older} but "
        raise LoadError(f"{place}: has {there}no {TOKENIZER}; save the tokenizer in its fast form")
    return found


@dataclass(frozen=True)
class Markers:
    """The special tokens of decoding."""

    start: int
    """With an encoder, an answer begins with it; T5's is the padding token. Without one it is not used."""
    pad: int
    """Fills up rows of ids; without an encoder nothing reads it, and published checkpoints often have none."""
    ends: frozenset[int]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Markers:
        """From generation_config.json, else config.json; LoadError where they do not say."""
        settings = checkpoint.generation()
        encoder = checkpoint.family.has_encoder
        pad, end = settings.get("pad_token_id"), settings.get("eos_token_id")
        pad = 0 if pad is None and not encoder else pad
        start = settings.get("decoder_start_token_id") if encoder else pad
        start = pad if start is None else start
        ends: list[Any] = end if isinstance(end, list) else [end]
        if not ends or not all(type(token) is int and token >= 0 for token in (start, pad, *ends)):
            beginning = f", 'decoder_start_token_id' is {start!r}" if encoder else ""
            raise LoadError(
                f"{checkpoint.source.place}: 'pad_token_id' is {pad!r}, 'eos_token_id' is {end!r}{beginning}; "
                "config.json or generation_config.json must give each"
            )
        assert isinstance(start, int) and isinstance(pad, int)
        words = next(iter(checkpoint.family.weights(checkpoint.config))).shape[0]
        if encoder and start >= words:
            raise LoadError(
                f"{checkpoint.source.place}: 'decoder_start_token_id' is {start}, and the model knows {words} tokens; "
                "mend config.json or generation_config.json"
            )
        return cls(start, pad, frozenset(ends))
