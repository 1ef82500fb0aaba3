"""Every rule of docs/server.md names a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NAMED = re.compile(r"`(\w+)::(\w+)`")


def rules() -> list[str]:
    """The rows of the tables under `Rule by rule`."""
    _, _, text = (ROOT / "docs/server.md").read_text().partition("## Rule by rule")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.endswith("| shown by |")]


def test_every_rule_has_a_test() -> None:
    assert len(rules()) > 80
    assert [rule for rule in rules() if not _NAMED.search(rule)] == []


def test_every_test_that_a_rule_names_is_there() -> None:
    named = {found for rule in rules() for found in _NAMED.findall(rule)}
    written = {file: (ROOT / f"tests/test_{file}.py").read_text() for file, _ in named}

    missing = [f"{file}::{name}" for file, name in sorted(named) if f"def test_{name}(" not in written[file]]

    assert missing == []
