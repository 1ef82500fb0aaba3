"""Which templates a model has, and how a text or a conversation becomes its prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.server.prompts import Prompts
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.templates import prompts_of, reader

USER = [{"role": "user", "content": "hi"}]
CHAT = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"


def prompts(folder: Path, properties: dict[str, str] | None = None, **files: object) -> Prompts:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return prompts_of(properties or {}, reader(folder), clock=lambda: 0)


def test_without_templates_a_text_and_a_users_message_are_the_prompt(tmp_path: Path) -> None:
    found = prompts(tmp_path)

    assert found.fill("hi") == found.chat(USER, True, {}) == "hi"


def test_without_a_template_a_longer_conversation_is_refused_with_the_mending(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"option\.chat_template") as caught:
        prompts(tmp_path).chat(USER * 2, True, {})

    assert caught.value.code == 400


def test_the_checkpoints_template_counts_and_its_file_before_its_config(tmp_path: Path) -> None:
    config = {"chat_template": CHAT, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}

    assert prompts(tmp_path, tokenizer_config__json=config).chat(USER, True, {}) == "<s>[user] hi "
    assert prompts(tmp_path, chat_template__jinja="own").chat(USER, True, {}) == "own"


def test_of_several_templates_the_default_counts(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]}

    assert prompts(tmp_path, tokenizer_config__json=config).chat(USER, True, {}) == "plain"


@pytest.mark.parametrize(
    "config",
    [
        {"add_bos_token": True},
        {},
    ],
)
def test_a_beginning_that_the_tokenizer_adds_is_not_there_twice(tmp_path: Path, config: dict[str, bool]) -> None:
    processor = {"type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [1]}}}

    found = prompts(
        tmp_path,
        tokenizer_config__json={"chat_template": CHAT, "bos_token": "<s>"} | config,
        tokenizer__json={"post_processor": processor},
    )

    assert found.chat(USER, True, {}) == "[user] hi "


def test_the_options_template_comes_first_inline_or_as_a_file(tmp_path: Path) -> None:
    config = {"chat_template": CHAT}

    inline = prompts(tmp_path, {"chat_template": "{{ messages | length }}"}, tokenizer_config__json=config)
    file = prompts(tmp_path, {"chat_template": "mine.txt"}, mine__txt="{{ add_generation_prompt }}")

    assert inline.chat(USER, True, {}) == "1" and file.chat(USER, True, {}) == "True"


def test_a_few_shot_template_puts_its_examples_before_the_text(tmp_path: Path) -> None:
    template = "{% for e in examples %}{{ e.q }} -> {{ e.a }}\n{% endfor %}{{ prompt }} ->"
    properties = {"prompt_template": "shots.jinja", "prompt_examples": "shots.jsonl"}

    found = prompts(tmp_path, properties, shots__jinja=template, shots__jsonl='{"q": "1", "a": "one"}\n\n{"q": 2}\n')

    assert found.fill("3") == found.chat([{"role": "user", "content": "3"}], True, {}) == "1 -> one\n2 -> \n3 ->"


def test_variables_of_the_request_reach_the_template_but_take_nothing_from_it(tmp_path: Path) -> None:
    found = prompts(tmp_path, {"chat_template": "{{ thinking }} {{ messages[0].content }}"})

    assert found.chat(USER, True, {"thinking": False, "messages": []}) == "False hi"


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"chat_template": "none.jinja"}, "option.chat_template must be a Jinja template or a file"),
        ({"chat_template": "../secret"}, "must be the name of a file in the model folder"),
        ({"chat_template": "/etc/passwd"}, "must be the name of a file in the model folder"),
        ({"chat_template": "link"}, "leads out of the model folder"),
        ({"chat_template": "binary"}, "binary is not UTF-8 text"),
        ({"prompt_template": "{% if %}"}, "option.prompt_template: prompt_template: it is no Jinja template"),
        ({"prompt_examples": "bad.jsonl"}, "bad.jsonl, line 2: is not JSON"),
        ({"prompt_examples": "bad.jsonl"}, "option.prompt_examples is for option.prompt_template"),
        ({"prompt_template": "{{ prompt }}", "prompt_examples": "none"}, "option.prompt_examples must be a file"),
    ],
)
def test_a_wrong_option_is_told_when_the_server_starts(
    tmp_path: Path, properties: dict[str, str], sentence: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "binary").write_bytes(b"\xff")
    (folder / "bad.jsonl").write_text("{}\n{")

    with pytest.raises(OptionsError) as caught:
        prompts(folder, properties)

    assert sentence in str(caught.value)
