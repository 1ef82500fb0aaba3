"""docs/capabilities.md is the registry's page, and what the registry has not is refused before anything is deployed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from heavylift_runtime.engines.documented import DOCUMENTED, main, page
from heavylift_runtime.engines.registry import ENGINES, Capabilities
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.options import Options
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "capabilities.md"
GENERATING = [row for row in ENGINES.values() if row.name != "script"]
DTYPES = ("fp32", "fp16", "bf16")
ALL = sorted({each for row in ENGINES.values() for each in row.quantizations})


def test_the_page_is_the_registrys() -> None:
    again = f"run `python -m heavylift_runtime.engines.documented docs/{PAGE.name}`"

    assert PAGE.read_text("utf-8") == page(), again


def test_every_engine_has_its_documentation_with_a_version() -> None:
    assert DOCUMENTED.keys() == ENGINES.keys()
    for name, said in DOCUMENTED.items():
        assert all(getattr(said, each.name) for each in fields(said)), name
        assert any(character.isdigit() for character in said.version) or name == "native"


def test_another_registry_is_another_page(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from heavylift_runtime.engines import documented

    other = {**ENGINES, "native": ENGINES["accelerate"]}
    monkeypatch.setattr(documented, "ENGINES", other)
    main([str(tmp_path / "page.md")])

    assert (tmp_path / "page.md").read_text("utf-8") != PAGE.read_text("utf-8")


def asked(row: Capabilities, **options: str) -> dict[str, str]:
    entry = {} if row.entry_point is None else {"option.entryPoint": row.entry_point}
    return {"engine": row.engine_property, **entry, **{f"option.{name}": text for name, text in options.items()}}


@pytest.mark.parametrize("row", GENERATING, ids=lambda row: row.name)
def test_what_an_engine_cannot_is_refused_with_its_name(row: Capabilities) -> None:
    wrong = [{"dtype": each} for each in DTYPES if each not in row.dtypes]
    wrong += [{"quantize": each} for each in ALL if each not in (*row.quantizations, *row.gpu_quantizations)]
    wrong += [] if row.pipeline_parallel else [{"pipeline_parallel_degree": "2"}]
    wrong += [] if row.tensor_parallel else [{"tensor_parallel_degree": "2"}]

    for options in wrong:
        with pytest.raises(OptionsError, match=f"engine {row.name}"):
            Options.parse(asked(row, **options), {})


@pytest.mark.parametrize("row", GENERATING, ids=lambda row: row.name)
def test_what_an_engine_can_is_taken(row: Capabilities) -> None:
    right = [{"dtype": each} for each in row.dtypes]
    right += [{"pipeline_parallel_degree": "2"}] if row.pipeline_parallel else []
    right += [{"tensor_parallel_degree": "2"}] if row.tensor_parallel else []

    for options in right:
        assert Options.parse(asked(row, **options), {}).engine == row.name
