"""Engine accelerate's generating tasks: the prefix that a model wants for each, languages, and what a task needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.errors import LoadError
from tests.t5_checkpoints import edit_config, write_t5
from tests.test_accelerate import engine

pytestmark = pytest.mark.slow

PREFIXES = {"summarization": "@@", "translation_en_to_de": "7A"}
LANGUAGES = ("en_XX", "de_DE", "fr_XX")


def answer(folder: Path, prompt: str, **properties: str) -> list[int]:
    writer = engine(folder, **properties)
    writer.add(0, Request(prompt, Sampling(8)))
    found: list[int] = []
    while writer.busy:
        found += [token.id for piece in writer.step() for token in piece.tokens]
    writer.close()
    return found


@torch.inference_mode()
def expected(folder: Path, prompt: str, **settings: Any) -> list[int]:
    """transformers' own answer, from the token after the decoder's first."""
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(prompt, return_tensors="pt")
    found: list[int] = model.generate(**given, do_sample=False, max_new_tokens=8, **settings)[0, 1:].tolist()
    return found


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_t5(tmp_path_factory.mktemp("tasks") / "t5")
    edit_config(folder, task_specific_params={task: {"prefix": prefix} for task, prefix in PREFIXES.items()})
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


@pytest.mark.parametrize("task", [*PREFIXES, "text2text-generation", "translation"])
def test_a_task_gets_the_prefix_that_the_models_config_has_for_it(t5: Path, task: str) -> None:
    prompt = "2468"

    found = answer(t5, prompt, task=task)

    assert found == expected(t5, PREFIXES.get(task, "") + prompt)
    if task in PREFIXES:
        assert found != expected(t5, prompt)  # else the prefix would prove nothing


def write_translator(folder: Path) -> Path:
    """A random mBART whose tokenizer has a token for each language, as the published ones have."""
    words = ["<pad>", "</s>", "<unk>", *LANGUAGES, *"0123456789"]
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
    }
    config = transformers.MBartConfig(
        vocab_size=len(words), encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=None,
        init_std=0.6, **sizes,
    )  # fmt: skip
    transformers.MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.add_special_tokens({"additional_special_tokens": list(LANGUAGES)})
    fast.save_pretrained(folder)
    return folder


def test_a_translation_begins_with_the_language_that_was_asked_for(tmp_path: Path) -> None:
    folder = write_translator(tmp_path / "mbart")

    for place, language in enumerate(LANGUAGES, start=3):
        found = answer(folder, "2468", task="translation", tgt_lang=language)

        assert found[0] == place
        theirs = expected(folder, "2468", forced_bos_token_id=place)
        assert found == (theirs[: theirs.index(1) + 1] if 1 in theirs else theirs)


def test_a_language_that_the_tokenizer_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = write_translator(tmp_path / "mbart")

    with pytest.raises(LoadError, match=r"option\.tgt_lang=xx_YY is no language of the model's tokenizer"):
        engine(folder, task="translation", tgt_lang="xx_YY")
