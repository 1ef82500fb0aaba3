"""How a client's text or conversation becomes the model's prompt: the model's own templates, in Jinja.

Not the request's schema (schemas/), and not the tokenizer: the engine turns a prompt into tokens.
A chat template is what transformers' `apply_chat_template` renders
(https://huggingface.co/docs/transformers/chat_templating); a prompt template surrounds the text of a request that is no
conversation, with worked examples if it likes (few-shot).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jinja2 import TemplateError

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.sandbox import Costly, Sandbox

Render = Callable[[Mapping[str, Any]], str]
LARGEST_TEMPLATE = 2**20  # characters


class Templates(Protocol):
    """What the schemas need of Prompts."""

    def fill(self, text: str) -> str:
        """The prompt for a text; Refused (400) where it cannot be made."""

    def chat(self, messages: Sequence[Mapping[str, Any]], generation: bool, variables: Mapping[str, Any]) -> str:
        """The prompt for a conversation; Refused (400) where it cannot be made."""


@dataclass(frozen=True)
class Prompts:
    """The templates of one model; without any, a text is the prompt, and so is a conversation of one user's message.

    `variables` are what the model's files add (`bos_token` …, `examples`). Where the tokenizer begins every prompt with
    `begins`, a template's own is taken off, lest it be there twice.
    """

    chat_template: Render | None = None
    prompt_template: Render | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    begins: str | None = None

    def fill(self, text: str) -> str:
        """The prompt for a text; Refused (400) where the template cannot take it."""
        if self.prompt_template is None:
            return _not_empty(text)
        return self._render(self.prompt_template, "prompt", {"prompt": text})

    def chat(self, messages: Sequence[Mapping[str, Any]], generation: bool, variables: Mapping[str, Any]) -> str:
        """The prompt for a conversation, with the start of the next answer (`generation`); Refused (400) where the
        template refuses it or fails, and where the model has none for more than one message."""
        if self.chat_template is not None:
            given = {"tools": None, "documents": None, **variables, "add_generation_prompt": generation}
            return self._render(self.chat_template, "chat", {**given, "messages": [dict(each) for each in messages]})
        if len(messages) == 1 and messages[0]["role"] == "user":
            return self.fill(messages[0]["content"])
        raise Refused(
            400,
            f"the model has no chat template, so that a conversation must be one message of the role 'user': got "
            f"{len(messages)}; option.chat_template in serving.properties gives it one",
        )

    def _render(self, template: Render, what: str, given: Mapping[str, Any]) -> str:
        try:
            prompt = template({**self.variables, **given})
            prompt.encode()
        except Costly as error:
            raise Refused(400, f"the model's {what} template takes too long for this request") from error
        except TemplateError as error:
            raise Refused(400, f"the model's {what} template refuses this request: {str(error)[:300]}") from error
        except Exception as error:  # a template is a program of somebody else's, and may fail in any way
            sentence = f"the model's {what} template fails: {type(error).__name__}: {str(error)[:300]}"
            raise Refused(400, sentence) from error
        return _not_empty(prompt.removeprefix(self.begins) if self.begins else prompt)


def compiled(source: str, clock: Callable[[], float] = time.time) -> Render:
    """A template, ready; ValueError where it is none. `clock` gives Unix seconds, for `strftime_now`."""
    if len(source) > LARGEST_TEMPLATE:
        raise ValueError(f"it has {len(source)} characters: at most {LARGEST_TEMPLATE}")
    sandbox = Sandbox()
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = lambda form: time.strftime(form, time.localtime(clock()))
    try:
        return sandbox.template(source)
    except RecursionError as error:
        raise ValueError("it is no Jinja template: it is nested too deeply") from error
    except Exception as error:  # Jinja computes what it can at once, and a template's values may be anything
        raise ValueError(f"it is no Jinja template: {error}") from error


def _not_empty(prompt: str) -> str:
    if not prompt:
        raise Refused(400, "the prompt is empty: send a text")
    return prompt


def _raise(message: str) -> None:
    raise TemplateError(message)
