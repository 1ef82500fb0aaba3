"""Tokenizers of checkpoints that have no tokenizer.json: out of GPT-2's two files, or T5's SentencePiece file.

Not a tokenizer of its own, and no SentencePiece: the `tokenizers` library does the work, with what the files say. The
SentencePiece file is a protobuf message (https://github.com/google/sentencepiece, sentencepiece_model.proto).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from struct import unpack
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

PIECES, WORDS, MERGES = "spiece.model", "vocab.json", "merges.txt"
CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
BYTES = ("gpt2", "gptj", "gpt_neox", "opt")
"""Model types whose two files mean byte-level pairs, cut where GPT-2 cuts."""
SENTINELS = 100
"""T5's `<extra_id_0>` …, which its SentencePiece file does not have; they come after its pieces, the last one first."""
MOST = 10_000
"""Of them; far more than any published T5 has."""
UNIGRAM = 1
BLANK = "▁"


def made_of(model_type: str, has: Callable[[str], bool], read: Callable[[str], bytes]) -> Tokenizer | None:
    """From the files of a checkpoint, which `read` gives; None where it has none that are known for its model type.

    Whatever is wrong with them is an exception: ValueError, KeyError, TypeError, the library's plain Exception.
    """
    config, special, added = (json.loads(read(name)) if has(name) else {} for name in (CONFIG, SPECIAL, ADDED))
    if model_type == "t5" and has(PIECES):
        return _pieces(read(PIECES), config)
    if model_type in BYTES and has(WORDS) and has(MERGES):
        return _pairs(json.loads(read(WORDS)), read(MERGES).decode(), {**special, **config}, added)
    return None


def _pairs(words: dict[str, int], merges: str, config: Mapping[str, Any], added: Mapping[str, int]) -> Tokenizer:
    """Byte-level pairs (Radford et al. 2019); OPT's begin every text with a token, as its config says."""
    pairs = [tuple(line.split(" ")) for line in merges.splitlines() if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"a line of {MERGES} is no pair")
    tokenizer = Tokenizer(BPE(words, [(first, second) for first, second in pairs]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space") is True)
    tokenizer.decoder = decoders.ByteLevel()
    known = [_text(config.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")]
    later = sorted(added, key=lambda word: added[word])
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in (*later, *known) if word is not None])
    if strange := [word for word in later if tokenizer.token_to_id(word) != added[word]]:
        raise ValueError(f"{strange[0]!r} of {ADDED} does not follow the words of {WORDS}")
    begin = _text(config.get("bos_token"))
    if config.get("add_bos_token") is True and begin is not None:
        _surround(tokenizer, f"{begin} $A", begin)
    return tokenizer


def _pieces(content: bytes, config: Mapping[str, Any]) -> Tokenizer:
    """T5's pieces (Kudo 2018), and the end after every text."""
    pieces, kind, unknown, charsmap = [], UNIGRAM, 0, b""
    for number, value in _members(content):
        inner = dict(_members(value)) if number in (1, 2, 3) and isinstance(value, bytes) else {}
        if number == 1:
            pieces.append((inner[1].decode(), unpack("<f", inner.get(2, bytes(4)))[0]))
        elif number == 2:
            kind, unknown = inner.get(3, UNIGRAM), inner.get(40, 0)
        elif number == 3:
            charsmap = inner.get(2, b"")
    if kind != UNIGRAM:
        raise ValueError(f"{PIECES} is no unigram model")
    count = config.get("extra_ids", SENTINELS)
    if type(count) is not int or not 0 <= count <= MOST:
        raise ValueError(f"'extra_ids' of {CONFIG} is {count!r}; it must be a whole number from 0 to {MOST}")
    sentinels = [f"<extra_id_{place}>" for place in reversed(range(count))]
    tokenizer = Tokenizer(Unigram([*pieces, *((each, 0.0) for each in sentinels)], unknown, False))
    if charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    blank = pre_tokenizers.Metaspace(BLANK, "always", True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), blank])
    tokenizer.decoder = decoders.Metaspace(BLANK, "always", True)
    end = _text(config.get("eos_token")) or "</s>"
    marks = [_text(config.get(f"{name}_token")) or usual for name, usual in (("pad", "<pad>"), ("unk", "<unk>"))]
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in (*marks, end, *sentinels)])
    _surround(tokenizer, f"$A {end}", end)
    return tokenizer


def _surround(tokenizer: Tokenizer, template: str, token: str) -> None:
    """Every text gets a token before or after it."""
    special = [(token, tokenizer.token_to_id(token))]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)


def _text(value: Any) -> str | None:
    """A special token's text: written out, or as an object with `content`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _members(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each member: a whole number, or bytes; ValueError where it ends too early."""
    at = 0

    def whole() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(message) or shift > 63:
                raise ValueError(f"{PIECES} is truncated or corrupt")
            value |= (message[at] & 0x7F) << shift
            at, shift, more = at + 1, shift + 7, message[at] & 0x80
            if not more:
                return value

    while at < len(message):
        tag = whole()
        if tag & 7 == 0:
            yield tag >> 3, whole()
            continue
        size = {1: 8, 5: 4}.get(tag & 7) or (whole() if tag & 7 == 2 else -1)
        if not 0 <= size <= len(message) - at:
            raise ValueError(f"{PIECES} is truncated or corrupt")
        yield tag >> 3, message[at : at + size]
        at += size
