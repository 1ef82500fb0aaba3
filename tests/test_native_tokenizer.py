"""Tokenizers of checkpoints without tokenizer.json, against transformers and SentencePiece; what is no tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.sources import Folder
from heavylift_runtime.native.text import Text
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.t5_checkpoints import write_t5

PIECES = Path(__file__).parent / "pieces"
"""spiece.model was trained by SentencePiece 0.2.3 on pages of docs/; spiece.json has its own tokens of some texts."""
LINES = [
    "the report is written",
    "it's the 3rd model of 17",
    "a model, a report;  two  blanks",
    "naïve façade, 漢字 😀",
]


def text_of(folder: Path) -> Text:
    return Text(Checkpoint.open(Folder(folder)))


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    folder = write_t5(tmp_path / "t5")
    shutil.copy(PIECES / "spiece.model", folder)
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """As OPT's publishers wrote it."""
    family, config = KINDS["opt"]
    folder = write_decoder(tmp_path / "opt", family, **config)
    (folder / "tokenizer.json").unlink()
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(LINES, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    trained.save_model(str(folder))
    bos = {"__type": "AddedToken", "content": "</s>"}
    says = {"add_bos_token": True, "bos_token": bos, "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(says))
    (folder / "added_tokens.json").write_text(json.dumps({"<mask>": trained.get_vocab_size()}))
    return folder


def test_a_sentencepiece_file_gives_sentencepieces_tokens_and_the_end(t5: Path) -> None:
    text = text_of(t5)

    for row in json.loads((PIECES / "spiece.json").read_text(encoding="utf-8")):
        assert text.encode([row["text"]]) == [[*row["tokens"], 1]]


def test_t5s_sentinels_and_marks_are_tokens_of_their_own(t5: Path) -> None:
    text = text_of(t5)

    (tokens,) = text.encode(["the <extra_id_0> report <extra_id_99></s>"])

    assert tokens[-3:] == [260, 1, 1] and 359 in tokens
    assert text.decode(tokens) == "the report"


def test_pairs_of_bytes_are_transformers_tokens_and_opts_begin_with_a_token(opt: Path) -> None:
    text, theirs = text_of(opt), GPT2Tokenizer.from_pretrained(opt)

    for line in [*LINES, "", " </s>report<mask>"]:
        (tokens,) = text.encode([line])
        assert tokens == theirs(line)["input_ids"]
        assert tokens[0] == 2
    assert text.decode(tokens) == " report"  # without marks


DAMAGE: list[tuple[str, bytes | None, str]] = [
    ("merges.txt", None, r"has vocab.json but no tokenizer.json; save the tokenizer in its fast form"),
    ("merges.txt", b"#version: 0.2\na b c\n", "a line of merges.txt is no pair"),
    ("merges.txt", b"qq zz\n", "is no tokenizer"),
    ("merges.txt", b"\xff\xfe", "is no tokenizer"),
    ("vocab.json", b"[1]", "is no tokenizer"),
    ("vocab.json", b'{"a": "b"}', "is no tokenizer"),
    ("tokenizer_config.json", b"[]", "is no tokenizer"),
    ("added_tokens.json", b'{"<mask>": 7}', "'<mask>' of added_tokens.json does not follow the words of vocab.json"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), DAMAGE)
def test_damaged_files_of_pairs_are_refused(opt: Path, name: str, content: bytes | None, sentence: str) -> None:
    (opt / name).unlink() if content is None else (opt / name).write_bytes(content)

    with pytest.raises(LoadError, match=sentence):
        text_of(opt)


WHOLE = (PIECES / "spiece.model").read_bytes()
CORRUPT = [b"\x0a", WHOLE[:-1], b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"{}", b"\x12\x02\x18\x02"]


@pytest.mark.parametrize("content", CORRUPT, ids=range(len(CORRUPT)))
def test_what_is_no_sentencepiece_file_is_refused(t5: Path, content: bytes) -> None:
    (t5 / "spiece.model").write_bytes(content)

    with pytest.raises(LoadError, match="t5 tokenizer: is no tokenizer: "):
        text_of(t5)


@pytest.mark.parametrize("count", ["many", True, -1, 10**12])
def test_a_number_of_sentinels_that_is_none_is_refused(t5: Path, count: Any) -> None:
    (t5 / "tokenizer_config.json").write_text(json.dumps({"extra_ids": count}))

    with pytest.raises(LoadError, match="it must be a whole number from 0 to 10000"):
        text_of(t5)


@pytest.mark.parametrize("says", [{"eos_token": "<end>"}, {"pad_token": 3}])
def test_a_tokenizers_config_of_wrong_types_never_ends_in_anything_but_a_sentence(t5: Path, says: Any) -> None:
    (t5 / "tokenizer_config.json").write_text(json.dumps(says))

    try:
        assert text_of(t5).encode(["the"])
    except LoadError as error:
        assert "is no tokenizer" in str(error)
