"""Files that are not what they should be, by the thousand: each is read, or answered with sentences and places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.spec import ModelSpec, environments
from tests.conftest import ROOT
from tests.hosting_lines import EVERYTHING, MINIMAL

LAYERED = "extends: base.yaml\nenvironments:\n  prod:\n    instance_type: ml.g5.xlarge\n    serving: {batch_size: 2}\n"
EXAMPLES = [(ROOT / "models" / f"{name}.yaml").read_text() for name in ("tiny-t5", "llama-3-1-8b", "gpt-j-6b")]
TEXTS = [*EXAMPLES, MINIMAL + EVERYTHING, MINIMAL + LAYERED]
BASE = "serving: {workers: 2}\ntags: {team: a}\nrollout: {strategy: all_at_once}\nbenchmark: {requests: auto}\n"
PIECES = st.sampled_from([
    ":", "-", " ", "  ", "\n", "\t", "{", "}", "[", "]", ",", "'", '"', "#", "&a ", "*a", "!!int ", "|", ">", "?",
    "%", "@", "null", "true", "1e999", ".nan", "0x", "\x00", "\ufeff", "\u2028", "é", "🙂", "---\n", "...\n", "~",
    "<<: ", "=", "auto",
    "extends: base.yaml\n", "extends: x.yaml\n", "environments: {prod: {}}\n", "model: {}\n", "name: x\n",
])  # fmt: skip
FAULT = re.compile(r"(?P<file>[^:]+):(?P<line>\d+)(:(?P<column>\d+))?: (?P<sentence>.+)", re.DOTALL)
FOREIGN = ("pydantic", "Input should", "type=", "Traceback", "validation error", "NoneType", "<class", "object at 0x")


def check(folder: Path, files: dict[str, bytes], env: str | None) -> None:
    """Read x.yaml: a model file, or sentences with a place in one of the files."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        ModelSpec.from_yaml(folder / "x.yaml", env)
        return
    except InputError as error:
        faults = error.faults
    assert faults and len(set(faults)) == len(faults), faults
    for fault in faults:
        assert not any(word in fault for word in FOREIGN), fault
        told = fault.removeprefix(f"{folder}/")
        assert told.isprintable() and not told.endswith((".", " ")), fault
        match = FAULT.fullmatch(told)
        assert match is not None, fault
        written = files[match["file"]].decode("utf-8-sig", errors="replace")
        assert 1 <= int(match["line"]) <= max(1, len(re.split(r"\r\n|[\n\r\x85\u2028\u2029]", written))), fault


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """A valid text with pieces cut out, doubled, or put in."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 25)))
        text = text[:start] + draw(st.one_of(PIECES, st.just(text[start:end] * 2), st.just(""))) + text[end:]
    return text.encode(errors="surrogatepass")


@pytest.mark.slow
@settings(max_examples=400)
@given(own=torn(), base=st.one_of(torn(), st.just(BASE.encode())), env=st.sampled_from([None, "prod", "prd", ""]))
def test_a_torn_file_is_answered_with_sentences(
    tmp_path_factory: pytest.TempPathFactory, own: bytes, base: bytes, env: str | None
) -> None:
    check(tmp_path_factory.getbasetemp(), {"x.yaml": own, "base.yaml": base}, env)


KEYS = st.one_of(st.text(max_size=8), st.sampled_from([*ModelSpec.model_fields, "metric"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=12),
        st.sampled_from(["auto", "ml.g5.xlarge", "cron(0 1 * * ? *)", "25%", "x", "s3://bucket/p/", "none", "canary"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip
WHOLE = yaml.safe_load(MINIMAL + EVERYTHING)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    changes=st.dictionaries(st.sampled_from([*ModelSpec.model_fields, "extends", "environments"]), VALUES, max_size=4),
    kept=st.sets(st.sampled_from(sorted(WHOLE))),
)
def test_any_value_in_any_field_is_answered_with_sentences(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], kept: set[str]
) -> None:
    document = {key: WHOLE[key] for key in sorted(kept)} | changes
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")

    check(tmp_path_factory.getbasetemp(), {"x.yaml": text, "base.yaml": BASE.encode()}, None)


@settings(max_examples=100)
@given(own=torn(), base=torn())
def test_the_environments_of_a_torn_file_are_names_or_sentences(
    tmp_path_factory: pytest.TempPathFactory, own: bytes, base: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "x.yaml").write_bytes(own)
    (folder / "base.yaml").write_bytes(base)

    try:
        names = environments(folder / "x.yaml")
    except InputError as error:
        assert error.faults
    else:
        assert all(isinstance(name, str) for name in names)
