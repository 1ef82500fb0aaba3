"""docs/serving.md names every parameter that the schemas know, and none that they do not."""

from __future__ import annotations

import json
import re

import pytest

from heavylift_runtime.server.schemas import Defaults, Misread, read
from heavylift_runtime.server.schemas.reading import PATHS
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs" / "serving.md").read_text()
CHAT = {"messages": [{"role": "user", "content": "a"}]}


def known(path: str, body: dict[str, object], what: str) -> set[str]:
    """All names that the refusal of an unknown one lists."""
    with pytest.raises(Misread) as caught:
        read(path, {}, json.dumps(body).encode(), Defaults())
    listed = re.search(rf"unknown {what} \"zzzz\": use ([^;]*)", caught.value.sentence)
    assert listed is not None, caught.value.sentence
    return set(listed[1].split(", "))


def told(heading: str) -> set[str]:
    """The words in code font of a section, its subsections included."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([a-z_]+)`", re.sub(r"```.*?```", "", section, flags=re.DOTALL)))


@pytest.mark.parametrize(
    ("heading", "path", "body", "what"),
    [
        ("LMI", "/invocations", {"inputs": "a", "zzzz": 1}, "member"),
        ("LMI", "/invocations", {"inputs": "a", "parameters": {"zzzz": 1}}, "parameter"),
        ("OpenAI", "/v1/chat/completions", CHAT | {"zzzz": 1}, "member"),
        ("OpenAI", "/v1/completions", {"prompt": "a", "zzzz": 1}, "member"),
    ],
)
def test_every_parameter_is_in_the_document(heading: str, path: str, body: dict[str, object], what: str) -> None:
    assert known(path, body, what) - told(heading) == set()


def test_every_parameter_of_the_document_is_known() -> None:
    lmi = known("/invocations", {"inputs": "a", "parameters": {"zzzz": 1}}, "parameter")
    lmi |= known("/invocations", {"inputs": "a", "parameters": {"max_seq_len": 9, "zzzz": 1}}, "parameter")
    chat = known("/v1/chat/completions", CHAT | {"zzzz": 1}, "member")
    text = known("/v1/completions", {"prompt": "a", "zzzz": 1}, "member")
    rows = [line.split("|")[1] for line in DOCUMENT.splitlines() if re.match(r"\| (`|at one|without|vLLM)", line)]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}

    members = {"inputs", "parameters", "stream", "adapters", "batch_size", "padding"}
    options = {"chat_template", "prompt_template", "prompt_examples"}
    assert named - lmi - chat - text - members - options == set()


def test_every_path_is_in_the_document() -> None:
    assert all(f"POST {path}`" in DOCUMENT for path in PATHS)
