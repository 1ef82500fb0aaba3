"""The JSON Schema, under a validator that editors and CI use: it takes and refuses what `validate` does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from heavylift.cli import main
from heavylift.spec import ModelSpec, schema
from tests.hosting_lines import EVERYTHING, MINIMAL

VALIDATOR = Draft202012Validator(schema())
FIELDS = Draft202012Validator(ModelSpec.model_json_schema())


def complaints(text: str) -> list[str]:
    """Where the schema complains: `serving.workers`."""
    document = yaml.safe_load(text)
    found = [leaf for error in VALIDATOR.iter_errors(document) for leaf in leaves(error)]
    return sorted({".".join(map(str, error.absolute_path)) for error in found})


def leaves(error: Any) -> list[Any]:
    return [leaf for each in error.context for leaf in leaves(each)] if error.context else [error]


def test_the_schema_is_one_and_names_every_field() -> None:
    document = schema()

    Draft202012Validator.check_schema(document)
    assert set(document["properties"]) == {*ModelSpec.model_fields, "extends", "environments"}
    assert document["additionalProperties"] is False
    assert document["else"]["required"] == ["name", "model"]


@pytest.mark.slow
def test_every_field_has_words_or_a_kind() -> None:
    fields = schema()["else"]["properties"]

    assert all({"type", "anyOf", "enum", "$ref", "allOf", "items"} & set(field) for field in fields.values())
    for name, field in fields.items():
        sections = [each["$ref"].rsplit("/", 1)[1] for each in (field, *field.get("anyOf", [])) if "$ref" in each]
        told = [field, *(schema()["$defs"][section] for section in sections)]
        assert any("description" in each for each in told), name


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0

    assert json.loads(capsys.readouterr().out) == schema()


def test_committed_files_are_valid_for_it(tiny_t5: Path) -> None:
    files = sorted(tiny_t5.parent.glob("*.yaml"))

    found = {file.name: complaints(file.read_text()) for file in files}

    assert found and not any(found.values()), found


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL + EVERYTHING,
        "extends: base.yaml\nname: x\n",
        "extends: base/a.yaml\nname: x\nbenchmark: {slo: [{metric: quality, min: 1}]}\nserving: null",
        MINIMAL
        + "environments: {dev: {instance_type: null, scaling: {min: 1}}, prod: {model: {path: p}, name: x-prod}}\n",
    ],
)
def test_what_validate_takes_the_schema_takes(text: str) -> None:
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: x\n", ""),
        ("model: {path: m}\n", ""),
        (MINIMAL + "dtyp: fp32\n", ""),
        (MINIMAL + "serving: {workers: 0}\n", "serving.workers"),
        (MINIMAL + "benchmark: {workload: four-tasks}\n", "benchmark"),
        (MINIMAL + "rollout: {strategy: canary}\n", "rollout"),
        (MINIMAL + "volume_size_in_gb: 513\n", "volume_size_in_gb"),
        ("extends: ../base.yaml\nname: x\n", "extends"),
        ("extends: base.yaml\nname: x\nserving: {worker: 1}\n", "serving"),
        ("extends: base.yaml\nname: x\nbenchmark: {slo: [{metric: quality}]}\n", "benchmark.slo.0"),
        (MINIMAL + "environments: {prod: {dtype: fp7}}\n", "environments.prod.dtype"),
        (MINIMAL + "environments: {prod: {extends: base.yaml}}\n", "environments.prod"),
        (MINIMAL + "environments: {PROD: {}}\n", "environments"),
    ],
)
def test_what_validate_refuses_the_schema_refuses_in_the_same_place(text: str, place: str) -> None:
    assert place in complaints(text)


DOCUMENT = {**yaml.safe_load(MINIMAL + EVERYTHING), "tags": {"a": "b"}, "options": {"n": 1}, "serving": {"workers": 1}}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, each in steps for place in places(each, (*path, step)))]


@pytest.mark.slow
@settings(max_examples=300)
@given(
    place=st.sampled_from([place for place in places(DOCUMENT) if place]),
    value=st.one_of(
        st.none(), st.booleans(), st.integers(-5, 10**6), st.sampled_from(["", "auto", "x", "ml.g5.xlarge", "100%"]),
        st.just([]), st.just({}), st.just({"x": 1}), st.just([1]), st.floats(0.1, 200).filter(lambda x: x % 1 != 0),
    ),
)  # fmt: skip
def test_schema_and_fields_agree_on_any_changed_document(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    holder: Any = document
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value

    try:
        ModelSpec.model_validate(document)
        taken = True
    except ValidationError:
        taken = False

    assert FIELDS.is_valid(document) == taken, (place, value)
