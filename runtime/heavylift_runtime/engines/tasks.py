"""What a Hugging Face model is for, and the class of transformers that opens it for that. No torch; nothing is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

from heavylift_runtime.errors import OptionsError

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "text-generation": "AutoModelForCausalLM",
        "text2text-generation": "AutoModelForSeq2SeqLM",
        "translation": "AutoModelForSeq2SeqLM",
        "summarization": "AutoModelForSeq2SeqLM",
        "feature-extraction": "AutoModel",
        "text-classification": "AutoModelForSequenceClassification",
        "token-classification": "AutoModelForTokenClassification",
        "fill-mask": "AutoModelForMaskedLM",
    }
)
GENERATING = ("text-generation", "text2text-generation", "translation", "summarization")
"""Their answers are tokens, and come as they are made; the others' are numbers, in one piece."""
_OTHER_NAMES = {"conversational": "text-generation", "sentiment-analysis": "text-classification"}
_ENDINGS = (  # of an architecture's name, the first that fits
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForMaskedLM", "fill-mask"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("MTModel", "text2text-generation"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("Model", "feature-extraction"),
)


def task_named(given: str | None, architectures: Sequence[str]) -> str:
    """The task that a file asks for, else that of the model's architecture; raises OptionsError."""
    if given is not None:
        name = _OTHER_NAMES.get(given, given)
        name = "translation" if name.startswith("translation_") else name
        if name not in TASKS:
            near = get_close_matches(name, TASKS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionsError(f"option.task must be one of {', '.join(TASKS)}: got {given!r}{hint}")
        return name
    for architecture in architectures:
        for ending, task in _ENDINGS:
            if architecture.endswith(ending):
                return task
    raise OptionsError(
        f"config.json's 'architectures' {list(architectures)} do not say what the model is for: set option.task to one "
        f"of {', '.join(TASKS)}"
    )
