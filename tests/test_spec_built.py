"""Nothing that a model file says is ignored: each field is read by somebody."""

from __future__ import annotations

import re
from typing import Any

from heavylift.spec import ModelSpec
from tests.conftest import ROOT


def read_somewhere() -> str:
    """All code that could read a field: what is not the specification itself."""
    files = [file for room in ("constructs", "stacks", "heavylift") for file in (ROOT / room).rglob("*.py")]
    files.append(ROOT / "app.py")
    return "\n".join(file.read_text() for file in files if (ROOT / "heavylift" / "spec") not in file.parents)


def kinds_at(schema: dict[str, Any], member: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappings that a field may hold, itself or in a list."""
    found = [member, *member.get("anyOf", []), *member.get("oneOf", [])]
    found += [each for one in found for each in (one.get("items"), *(one.get("items") or {}).get("oneOf", [])) if each]
    found += [each for one in found for each in one.get("oneOf", [])]
    named = [schema["$defs"][each["$ref"].rsplit("/", 1)[1]] for each in found if "$ref" in each]
    return [each for each in named if "properties" in each]


def paths(schema: dict[str, Any], kind: dict[str, Any], at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every field of the file, without the places of lists."""
    found = set()
    for name, member in kind["properties"].items():
        found.add((*at, name))
        for inner in kinds_at(schema, member):
            found |= paths(schema, inner, (*at, name))
    return found


def test_every_field_is_read_by_somebody() -> None:
    schema, text = ModelSpec.model_json_schema(), read_somewhere()

    ignored = [
        ".".join(path)
        for path in sorted(paths(schema, schema))
        if re.search(rf"\.{path[-1]}\b|[\"']{path[-1]}[\"']|\b{path[-1]}=", text) is None
    ]

    assert not ignored
