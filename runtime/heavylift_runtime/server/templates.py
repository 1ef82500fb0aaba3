"""A model's templates, from its options and its files: which there are, and what they refer to. Not their rendering.

option.chat_template and option.prompt_template are Jinja, or the name of a file of the model folder with it;
option.prompt_examples is a file of JSON lines, `examples` in the prompt template. Without option.chat_template the
checkpoint's own counts: chat_template.jinja, else tokenizer_config.json's (as transformers reads them).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.manner import SETTINGS, Manner, followed
from heavylift_runtime.server.prompts import LARGEST_TEMPLATE, Prompts, Render, compiled

Read = Callable[[str], str | None]  # the text of a file of the model; None where it has none of that name
LARGEST_FILE = 64 * 2**20  # bytes; a tokenizer.json has up to some twenty million
TOKENIZER = "tokenizer.json"
FILES = ("chat_template.jinja", "tokenizer_config.json", TOKENIZER, *SETTINGS)  # of a checkpoint
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def prompts_of(properties: Mapping[str, str], read: Read, clock: Callable[[], float] = time.time) -> Prompts:
    """The prompts for `option.*` without that prefix; OptionsError with every fault at once."""
    faults: list[str] = []
    config = _json(read, "tokenizer_config.json", faults)
    special = {name: text for name in _SPECIAL if (text := _token(config.get(name))) is not None}
    own = read("chat_template.jinja") or _named(config.get("chat_template"))
    chat = _compiled("chat_template", properties, read, own, clock, faults)
    prompt = _compiled("prompt_template", properties, read, None, clock, faults)
    examples = _examples(properties.get("prompt_examples"), read, faults)
    begins = _begins(config, special.get("bos_token"), read, faults) if chat is not None or prompt is not None else None
    if "prompt_examples" in properties and "prompt_template" not in properties:
        faults.append("option.prompt_examples is for option.prompt_template, which is missing")
    if faults:
        raise OptionsError(faults)
    return Prompts(chat, prompt, {**special, "examples": examples}, begins)


def manner_of(properties: Mapping[str, str], engine: str, read: Read) -> Manner:
    """How the checkpoint wants its tokens to be chosen; OptionsError with every fault at once."""
    faults: list[str] = []
    try:
        if not followed(properties, engine):
            return Manner()
        name = next((name for name in SETTINGS if read(name) is not None), SETTINGS[-1])
        found = Manner.of(_json(read, name, faults))
    except ValueError as error:
        faults += str(error).splitlines()
    if faults:
        raise OptionsError(faults)
    return found


def reader(*folders: Path) -> Read:
    """Reads files of these folders, the first that has one; OptionsError for a name that leads out of them, and for
    what is too large or no text."""

    def read(name: str) -> str | None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise OptionsError(f"{name!r} must be the name of a file in the model folder")
        for folder in folders:
            found = (folder / path).resolve()
            if not found.is_file():
                continue
            if not found.is_relative_to(folder.resolve()):
                raise OptionsError(f"{name!r} leads out of the model folder")
            if found.stat().st_size > LARGEST_FILE:
                raise OptionsError(f"{name} has {found.stat().st_size} bytes: at most {LARGEST_FILE}")
            try:
                return found.read_text("utf-8")
            except UnicodeDecodeError as error:
                raise OptionsError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
        return None

    return read


def chained(*reads: Read) -> Read:
    """The first that has the file."""

    def read(name: str) -> str | None:
        return next((text for each in reads if (text := each(name)) is not None), None)

    return read


class AwaitedPrompts:
    """Prompts that are known once the model has loaded, and not needed before."""

    def __init__(self, make: Callable[[], Prompts]) -> None:
        self._make = make

    @cached_property
    def _prompts(self) -> Prompts:
        return self._make()

    def fill(self, text: str) -> str:
        """As Prompts does."""
        return self._prompts.fill(text)

    def chat(self, messages: Sequence[Mapping[str, Any]], generation: bool, variables: Mapping[str, Any]) -> str:
        """As Prompts does."""
        return self._prompts.chat(messages, generation, variables)


def _compiled(
    key: str,
    properties: Mapping[str, str],
    read: Read,
    own: str | None,
    clock: Callable[[], float],
    faults: list[str],
) -> Render | None:
    given = properties.get(key)
    source = own if given is None else given if "{{" in given or "{%" in given else read(given)
    if source is None:
        if given is not None:
            faults.append(f"option.{key} must be a Jinja template or a file in the model folder: got {given[:80]!r}")
        return None
    try:
        return compiled(source, clock)
    except ValueError as error:
        faults.append(f"{'the checkpoint' if given is None else f'option.{key}'}: {key}: {error}")
        return None


def _examples(name: str | None, read: Read, faults: list[str]) -> list[Any]:
    if name is None:
        return []
    text = read(name)
    if text is None or len(text) > LARGEST_TEMPLATE:
        faults.append(f"option.prompt_examples must be a file in the model folder, of at most 1 MiB: got {name!r}")
        return []
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                faults.append(f"{name}, line {number}: is not JSON: {error}")
                return []
    return rows


def _json(read: Read, name: str, faults: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(read(name) or "{}")
    except (ValueError, RecursionError) as error:
        faults.append(f"{name} is not JSON: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _named(template: Any) -> str | None:
    """A template, or the one called `default` in a list of them."""
    if isinstance(template, list):
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token(value: Any) -> str | None:
    """A special token's text: written out, or as an object with `content`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _begins(config: Mapping[str, Any], token: str | None, read: Read, faults: list[str]) -> str | None:
    """The token with which the tokenizer begins every prompt by itself: its post-processor names it."""
    if token is None or config.get("add_bos_token") is False:
        return None
    if config.get("add_bos_token") is True:
        return token
    processor = _json(read, TOKENIZER, faults).get("post_processor")
    return token if json.dumps(token) in json.dumps(processor) else None
