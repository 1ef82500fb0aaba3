"""What scripts of transformers 4 call and transformers 5 no longer has: methods, pipelines, arguments.

AWS's samples call `tokenizer.batch_encode_plus`, `pipeline("text2text-generation")` and `from_pretrained(…,
load_in_8bit=…)`; without them such a model.py would have to be changed. Not all of the old version: `Conversation`
stays away, and caches are no tuples.
Meanings: https://huggingface.co/docs/transformers/v4.57.1/main_classes/tokenizer and …/main_classes/pipelines.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

_IMPORTS = re.compile(rb"^\s*(?:from\s+transformers\b|import\b[^#\n]*\btransformers\b)", re.MULTILINE)
_LANGUAGES = re.compile(r"translation_\w+_to_\w+")
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "text2text-generation": "generated_text",
        "summarization": "summary_text",
        "translation": "translation_text",
    }
)


def restore_for(folder: Path) -> None:
    """Give transformers the old names back in this process, where a Python file of the folder imports it."""
    imports = any(_IMPORTS.search(file.read_bytes()) for file in sorted(folder.rglob("*.py")) if file.is_file())
    if imports and importlib.util.find_spec("transformers") is not None:
        restore()


def restore() -> None:
    """Give transformers the old names back in this process, those that it lacks."""
    import transformers
    from transformers import pipelines
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    base: Any = transformers.PreTrainedTokenizerBase
    for name, method in (("encode_plus", _encode_plus), ("batch_encode_plus", _batch_encode_plus)):
        if not hasattr(base, name):
            setattr(base, name, method)
    registry: Any = pipelines.PIPELINE_REGISTRY
    for task, key in _KEYS.items():
        if task not in registry.supported_tasks:
            getattr(pipelines, "REMOVED_TASKS", {}).pop(task, None)
            registry.register_pipeline(task, _pipeline(key), transformers.AutoModelForSeq2SeqLM, type="text")
    registry.check_task = _with_languages(type(registry).check_task.__get__(registry))
    owners: tuple[Any, ...] = (transformers.PreTrainedModel, _BaseAutoModelClass)
    for owner in owners:
        given = owner.__dict__["from_pretrained"].__func__
        if not hasattr(given, "__wrapped__"):
            owner.from_pretrained = classmethod(_with_old_arguments(given))


def _with_languages(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """`translation_en_to_de` is a translation, whose prefix the model's task_specific_params have under that name."""
    return lambda task: check("translation" if _LANGUAGES.fullmatch(task) else task)


def _with_old_arguments(load: Callable[..., Any]) -> Callable[..., Any]:
    """from_pretrained that knows what version 4 called otherwise."""
    import transformers

    @functools.wraps(load)
    def from_pretrained(cls: type[Any], *given: Any, **settings: Any) -> Any:
        if bits := {name: True for name in ("load_in_8bit", "load_in_4bit") if settings.pop(name, False)}:
            rounded: Any = transformers.BitsAndBytesConfig
            settings.setdefault("quantization_config", rounded(**bits))
        if (token := settings.pop("use_auth_token", None)) is not None:
            settings.setdefault("token", token)
        if settings.pop("use_flash_attention_2", False):
            settings.setdefault("attn_implementation", "flash_attention_2")
        return load(cls, *given, **settings)

    return from_pretrained


def _encode_plus(self: Any, text: Any, text_pair: Any = None, **settings: Any) -> Any:
    return self(text, text_pair, **settings)


def _batch_encode_plus(self: Any, batch_text_or_text_pairs: Sequence[Any], **settings: Any) -> Any:
    rows = list(batch_text_or_text_pairs)
    if rows and all(isinstance(row, tuple) and len(row) == 2 for row in rows):
        return self([first for first, _ in rows], [second for _, second in rows], **settings)
    return self(rows, **settings)


def _pipeline(key: str) -> type[Any]:
    """A pipeline from text to text whose answers have this key."""
    from transformers import Pipeline

    base: Any = Pipeline

    class TextToText(base):  # type: ignore[misc]  # transformers' own has no types
        _load_tokenizer = True
        _load_processor = _load_image_processor = _load_feature_extractor = False

        def __call__(self, *texts: Any, **settings: Any) -> Any:
            found = super().__call__(*texts, **settings)
            if texts and isinstance(texts[0], list) and all(len(rows) == 1 for rows in found):
                return [rows[0] for rows in found]
            return found

        def _sanitize_parameters(
            self, truncation: Any = None, clean_up_tokenization_spaces: Any = None, **generate: Any
        ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
            reads = {} if truncation is None else {"truncation": truncation}
            clean = clean_up_tokenization_spaces
            return reads, generate, {} if clean is None else {"clean_up_tokenization_spaces": clean}

        def preprocess(self, text: str, **settings: Any) -> Any:
            about = getattr(self.model.config, "task_specific_params", None) or {}
            prefix = about.get(self.task, {}).get("prefix", getattr(self.model.config, "prefix", None) or "")
            return self.tokenizer(prefix + text, return_tensors="pt", **settings)

        def _forward(self, tokens: Mapping[str, Any], **generate: Any) -> Any:
            kept = {name: tokens[name] for name in ("input_ids", "attention_mask")}
            return {"rows": self.model.generate(**kept, **generate)}

        def postprocess(self, answer: Mapping[str, Any], **settings: Any) -> list[dict[str, str]]:
            return [{key: self.tokenizer.decode(row, skip_special_tokens=True, **settings)} for row in answer["rows"]]

    return TextToText
