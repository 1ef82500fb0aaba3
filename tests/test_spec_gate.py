"""The gate's and the benchmark's rules in a model file: what a strategy, a shared load and a stream go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec
from heavylift.spec.rules import benchmark as rules
from heavylift_runtime.engines.registry import ENGINES

SLO = "slo: [{metric: e2e_latency, percentile: 90, max_ms: 500}]"


def written(folder: Path, benchmark: str = "", gate: str = "{}") -> Path:
    file = folder / "x.yaml"
    file.write_text(
        f"name: x\nmodel: {{path: x}}\nbenchmark: {{workload: four-tasks, {SLO}{benchmark}}}\ngate: {gate}\n"
    )
    return file


@pytest.mark.parametrize("strategy", ["after_create", "staging", "dark_variant"])
def test_a_strategy_reaches_the_plan(tmp_path: Path, strategy: str) -> None:
    assert ModelSpec.from_yaml(written(tmp_path, gate=f"{{strategy: {strategy}}}")).gate.strategy == strategy


@pytest.mark.parametrize("strategy", ["staging", "dark_variant"])
def test_what_never_served_cannot_be_held(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(InputError, match=f"strategy: {strategy} never lets one serve that missed its targets"):
        ModelSpec.from_yaml(written(tmp_path, gate=f"{{strategy: {strategy}, on_fail: hold}}"))


def test_a_poisson_load_may_be_shared_and_no_other(tmp_path: Path) -> None:
    shared = ModelSpec.from_yaml(written(tmp_path, ", load: {mode: open, rate: 200, generators: 4}")).benchmark
    assert shared is not None and shared.load.to_dict()["generators"] == 4

    with pytest.raises(InputError, match="unknown key 'generators'"):
        ModelSpec.from_yaml(written(tmp_path, ", load: {mode: open, arrivals: constant, rate: 200, generators: 4}"))


def test_a_stream_is_refused_where_no_engine_could_send_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ENGINES", {name: replace(row, streams=False) for name, row in ENGINES.items()})
    with pytest.raises(InputError, match=r"needs an engine that streams; in this version .* cannot"):
        ModelSpec.from_yaml(written(tmp_path, ", stream: true"))

    monkeypatch.setattr(rules, "ENGINES", {name: replace(row, streams=True) for name, row in ENGINES.items()})
    spec = ModelSpec.from_yaml(written(tmp_path, ", stream: true"))
    assert spec.benchmark is not None and spec.benchmark.stream
