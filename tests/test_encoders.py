"""Models that answer with numbers, by task: on tiny random BERTs, beside transformers, and on the real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from heavylift_runtime.engines.encoders import Encoder
from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.tasks import task_named
from heavylift_runtime.errors import LoadError, OptionsError, PromptError
from heavylift_runtime.options import Options
from tests.served import serving

pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea", "is", "green", "black", "hot", "and", "cold"]
TEXTS = ["tea is green", "tea", "black tea is hot and green tea is cold"]
SMALL: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 16, "id2label": {0: "O", 1: "TEA", 2: "HEAT"},
    "label2id": {"O": 0, "TEA": 1, "HEAT": 2}, "initializer_range": 0.5,
}  # fmt: skip


def write_bert(folder: Path, owner: str, **more: Any) -> Path:
    torch.manual_seed(0)
    getattr(transformers, owner)(transformers.BertConfig(**SMALL | more)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def pretrained(folder: Path, **properties: str) -> Pretrained:
    return Pretrained(Options(engine="accelerate", properties=properties), folder, folder, lambda line: None)


def encoder(folder: Path, owner: str, **settings: Any) -> Encoder:
    return Encoder(pretrained(write_bert(folder / owner, owner)), **settings)


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[str, str], Any]:
    """transformers' output for one text alone."""

    @torch.inference_mode()
    def ask(owner: str, text: str) -> Any:
        model = getattr(transformers, owner).from_pretrained(tmp_path / owner).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / owner)
        return model(**tokenizer(text, return_tensors="pt"))

    return ask


def test_an_embedding_is_the_mean_of_its_tokens_whatever_is_beside_it(
    tmp_path: Path, alone: Callable[[str, str], Any]
) -> None:
    found = encoder(tmp_path, "BertModel", normalize=False).answer(TEXTS, {})

    for text, vector in zip(TEXTS, found, strict=True):
        expected = alone("BertModel", text).last_hidden_state[0].mean(0).tolist()
        assert vector == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("pooling", "place"), [("cls", 0), ("last", -1)])
def test_an_embedding_may_be_one_tokens_and_has_length_one(
    tmp_path: Path, alone: Callable[[str, str], Any], pooling: str, place: int
) -> None:
    found = encoder(tmp_path, "BertModel", pooling=pooling).answer(TEXTS, {})

    for text, vector in zip(TEXTS, found, strict=True):
        state = alone("BertModel", text).last_hidden_state[0, place]
        assert vector == pytest.approx((state / state.norm()).tolist(), abs=1e-5)


def test_a_class_is_the_likeliest_or_as_many_as_asked_for(tmp_path: Path, alone: Callable[[str, str], Any]) -> None:
    found = encoder(tmp_path, "BertForSequenceClassification")
    best, every = found.answer(TEXTS, {}), found.answer(TEXTS, {"top_k": 9})

    for text, one, row in zip(TEXTS, best, every, strict=True):
        chances = alone("BertForSequenceClassification", text).logits[0].softmax(-1)
        assert one["score"] == pytest.approx(float(chances.max()), abs=1e-5)
        assert one == row[0] and len(row) == 3
        assert sum(each["score"] for each in row) == pytest.approx(1)
        assert one["label"] == SMALL["id2label"][int(chances.argmax())]


@pytest.mark.parametrize(
    "about",
    [
        {"num_labels": 5, "id2label": None, "label2id": None},
        {"num_labels": 1, "id2label": None, "label2id": None},  # a reranker: each text has a score of its own
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
    ],
)
def test_scores_are_those_of_transformers_own_pipeline(tmp_path: Path, about: dict[str, Any]) -> None:
    folder = write_bert(tmp_path / "bert", "BertForSequenceClassification", **about)
    pipeline: Any = transformers.pipeline("text-classification", str(folder))

    found = Encoder(pretrained(folder)).answer(TEXTS, {"top_k": 9})

    for theirs, ours in zip(pipeline(TEXTS, top_k=None), found, strict=True):
        assert [each["label"] for each in ours] == [each["label"] for each in theirs]
        assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], abs=1e-5)


def test_a_decoder_without_a_pad_token_classifies_texts_of_all_lengths_together(tmp_path: Path) -> None:
    about = {"num_labels": 5, "pad_token_id": None, "bos_token_id": 3, "eos_token_id": 3, "initializer_range": 0.5}
    sizes = {"vocab_size": len(WORDS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}
    folder = write_bert(tmp_path / "gpt2", "BertModel")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}'
    )
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes, **about)).eval()
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    found = Encoder(pretrained(folder)).answer(TEXTS, {"top_k": 5})

    for text, row in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            chances = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        assert [each["score"] for each in row] == pytest.approx(chances.sort(descending=True).values.tolist(), abs=1e-5)


def test_a_text_without_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", "BertModel")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))

    with pytest.raises(PromptError, match="a text has no tokens"):
        Encoder(pretrained(folder)).answer(["tea", " "], {})


def test_entities_tell_their_place_in_the_text(tmp_path: Path, alone: Callable[[str, str], Any]) -> None:
    found = encoder(tmp_path, "BertForTokenClassification").answer(TEXTS, {})

    for text, entities in zip(TEXTS, found, strict=True):
        labels = alone("BertForTokenClassification", text).logits[0].argmax(-1).tolist()[1:-1]
        words = text.split()
        assert [each["word"] for each in entities] == [w for w, label in zip(words, labels, strict=True) if label]
        assert all(text[each["start"] : each["end"]] == each["word"] for each in entities)


def test_a_mask_is_filled_with_the_likeliest_words(tmp_path: Path, alone: Callable[[str, str], Any]) -> None:
    filling = encoder(tmp_path, "BertForMaskedLM")
    found = filling.answer(["tea is [MASK]"], {"top_k": 2})[0]

    chances = alone("BertForMaskedLM", "tea is [MASK]").logits[0, 3].softmax(-1)
    assert [each["token"] for each in found] == chances.topk(2).indices.tolist()
    assert found[0]["token_str"] == WORDS[found[0]["token"]]
    with pytest.raises(PromptError, match=r"each text must have one \[MASK\]: got 0"):
        filling.answer(["tea"], {})


@pytest.mark.parametrize(
    ("texts", "parameters", "sentence"),
    [
        ([], {}, "'inputs' must be a text, or 1 to 1024 texts"),
        ([""], {}, "none of them empty"),
        ([3], {}, "'inputs' must be a text"),
        (["\ud800"], {}, "half of a UTF-16 pair"),
        (["tea " * 20], {}, "a text has 22 tokens; the model has 16 positions"),
        (["tea"], {"top": 1}, "unknown parameter 'top'"),
        (["tea"], {"top_k": 0}, "'top_k' must be a whole number from 1: got 0"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    tmp_path: Path, texts: list[Any], parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PromptError) as caught:
        encoder(tmp_path, "BertModel").answer(texts, parameters)

    assert sentence in str(caught.value)


def test_the_task_is_what_the_file_or_the_architecture_says() -> None:
    assert task_named(None, ["BertForSequenceClassification"]) == "text-classification"
    assert task_named(None, ["T5ForConditionalGeneration"]) == "text2text-generation"
    assert task_named(None, ["GPT2LMHeadModel"]) == "text-generation"
    assert task_named("translation_en_to_de", []) == "translation"
    with pytest.raises(OptionsError, match="did you mean 'text-classification'"):
        task_named("text-clasification", [])
    with pytest.raises(OptionsError, match=r"do not say what the model is for: set option.task"):
        task_named(None, [])


def test_a_model_that_generates_text_is_no_encoder(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", "BertModel")

    with pytest.raises(LoadError, match="text-generation, which is no encoder's"):
        Encoder(pretrained(folder, task="text-generation"))
    with pytest.raises(LoadError, match=r"option\.pooling must be one of mean, cls, last: got 'max'"):
        Encoder(pretrained(folder), pooling="max")


def test_an_encoder_is_served_without_a_script_and_computes_requests_together(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model", "BertModel")
    properties = ["engine=Python", "option.entryPoint=djl_python.huggingface", "option.task=feature-extraction"]
    (folder / "serving.properties").write_text("\n".join([*properties, "batch_size=4", "max_batch_delay=500", ""]))
    expected = Encoder(pretrained(folder)).answer(TEXTS, {})

    with serving(folder) as served:
        whole = served.ask({"inputs": TEXTS})
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda text: served.ask({"inputs": text}), TEXTS))
        wrong = served.ask({"inputs": ""})

    assert [value for row in whole.json() for value in row] == pytest.approx(
        [v for row in expected for v in row], abs=1e-5
    )
    for part, row in zip(parts, expected, strict=True):
        assert json.loads(part.content)[0] == pytest.approx(row, abs=1e-5)
    assert wrong.status_code == 400 and "none of them empty" in wrong.json()["error"]
