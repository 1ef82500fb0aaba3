"""Tokens as text, piece by piece: no half characters, nothing of a stop sequence, and nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from heavylift_runtime.native.stream import Stream

TEXTS = st.text(st.sampled_from("ab ,日本語é\U0001f600\n"), max_size=30)


def byte_level() -> Tokenizer:
    """GPT-2's kind: every byte is a letter of its own alphabet; a few merges across characters' borders."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, "ab", "Ġa", "æĹ"]
    merges = [("a", "b"), ("Ġ", "a"), ("æ", "Ĺ")]
    tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback() -> Tokenizer:
    """Llama's kind: words with a mark for the space before them, bytes for letters that it does not know."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", ",", "ab", "▁a"]
    merges = [("a", "b"), ("▁", "a")]
    tokenizer = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def pieces_of_words() -> Tokenizer:
    """T5's kind: a blank before a word is in the text only after another one; sentinels have no text."""
    words = ["</s>", "<unk>", "<extra_id_0>", "<extra_id_1>", "▁", "▁the", "▁word", "s", ","]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], 1, False))
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.add_special_tokens(words[:4])
    return tokenizer


TOKENIZERS = {"byte-level": byte_level(), "byte-fallback": byte_fallback()}


def pieces(stream: Stream, tokens: list[int]) -> list[str]:
    return [stream.add(token, last=place == len(tokens)) for place, token in enumerate(tokens, 1)]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_a_words_blank_is_not_lost_after_a_token_that_has_no_text(tokens: list[int]) -> None:
    tokenizer = pieces_of_words()

    assert "".join(pieces(Stream(tokenizer.decode, ()), tokens)) == tokenizer.decode(tokens)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(prompt=TEXTS, text=TEXTS)
def test_the_pieces_together_are_the_text_and_each_is_whole_characters(kind: str, prompt: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    before, tokens = tokenizer.encode(prompt).ids, tokenizer.encode(prompt + text).ids
    while before != tokens[: len(before)]:  # a merge across the border
        before.pop()

    found = pieces(Stream(tokenizer.decode, before), tokens[len(before) :])

    assert "".join(found) == tokenizer.decode(tokens)[len(tokenizer.decode(before)) :]
    assert not any("\ufffd" in piece for piece in found)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(tokens=st.lists(st.integers(1, 250), max_size=25))
def test_bytes_that_are_no_text_are_shown_as_such_and_lose_nothing_after_them(kind: str, tokens: list[int]) -> None:
    decode = TOKENIZERS[kind].decode
    tail = TOKENIZERS[kind].encode("ab,ab").ids

    found = "".join(pieces(Stream(decode, []), tokens + tail))

    assert found.endswith("b,ab")


def test_a_completion_keeps_the_space_before_its_first_word() -> None:
    tokenizer = TOKENIZERS["byte-fallback"]
    prompt, whole = tokenizer.encode("ab").ids, tokenizer.encode("ab ab").ids

    assert "".join(pieces(Stream(tokenizer.decode, prompt), whole[len(prompt) :])) == " ab"
    assert "".join(pieces(Stream(tokenizer.decode, []), whole)) == "ab ab"


@given(
    text=st.text(st.sampled_from("abc"), max_size=20),
    stop=st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=4), max_size=3),
)
def test_nothing_of_a_stop_sequence_or_after_it_is_given_out(text: str, stop: list[str]) -> None:
    decode = "".join
    stream = Stream(lambda tokens: decode(map(chr, tokens)), [], stop)
    given_out = []

    for place, letter in enumerate(text, 1):
        given_out.append(stream.add(ord(letter), last=place == len(text)))
        said = "".join(given_out)
        assert not any(each in said for each in stop)
        if stream.stopped:
            break

    ends = [place for each in stop if (place := text.find(each)) >= 0]
    assert stream.stopped == bool(ends)
    if not ends:
        assert "".join(given_out) == text
    else:
        # the first stop sequence to be complete ends it, where it begins
        first = min(text.find(each) + len(each) for each in stop if each in text)
        begin = min(text.find(each) for each in stop if each in text and text.find(each) + len(each) == first)
        assert "".join(given_out) == text[:begin]
