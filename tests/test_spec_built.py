"""Nothing that a model file says is ignored: each field is read by somebody, or refused as not built yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec
from heavylift.spec.not_yet import DEFAULTS, NOT_YET
from tests.conftest import ROOT

MINIMAL = "name: x\nmodel: {path: m}\n"


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


def test_every_field_is_read_by_somebody_or_refused() -> None:
    schema, text = ModelSpec.model_json_schema(), read_somewhere()
    refused = [tuple(step for step in path if step != "*") for path in NOT_YET]

    ignored = [
        ".".join(path)
        for path in sorted(paths(schema, schema))
        if not any(path[: len(each)] == each for each in refused)
        and re.search(rf"\.{path[-1]}\b|[\"']{path[-1]}[\"']|\b{path[-1]}=", text) is None
    ]

    assert not ignored


def test_every_path_that_is_not_built_is_a_field() -> None:
    schema = ModelSpec.model_json_schema()

    known = paths(schema, schema)

    assert all(tuple(step for step in path if step != "*") in known for path in NOT_YET)
    assert set(DEFAULTS) <= set(NOT_YET)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "variants: [{name: a}, {name: b, serving: {batch_size: 2}}]",
            "3:33: 'variants[1].serving' is known, but this",
        ),
        (
            "shadow: {name: a, options: {max_new_tokens: 4}}",
            "3:19: 'shadow.options' is known, but this version does not",
        ),
    ],
)
def test_what_is_not_built_is_refused_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, fault: str
) -> None:
    waiting = {("variants", "*", "serving"): "it waits", ("shadow", "options"): "it waits"}
    monkeypatch.setattr("heavylift.spec.not_yet.NOT_YET", waiting)
    (tmp_path / "x.yaml").write_text(MINIMAL + line + "\n")

    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(tmp_path / "x.yaml")

    assert [each.removeprefix(f"{tmp_path}/x.yaml:")[: len(fault)] for each in caught.value.faults] == [fault]


def test_a_default_needs_no_building(tmp_path: Path) -> None:
    network = "network: {subnets: [subnet-01234567], security_groups: [sg-01234567], image_access: platform}"
    (tmp_path / "x.yaml").write_text(MINIMAL + network + "\n")

    assert ModelSpec.from_yaml(tmp_path / "x.yaml").network is not None
