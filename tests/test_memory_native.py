"""The native engine's memory: the plan's formula against peaks that were measured, and one measured now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from heavylift.plan.memory import BYTES_PER_ELEMENT, native_need
from heavylift.plan.memory.ledger import HOST_PROCESS, MARGIN
from heavylift.plan.memory.native import FORMS, HELD
from heavylift.plan.model import ModelFacts
from heavylift_runtime.families import family_of
from heavylift_runtime.native.architectures import repeated
from heavylift_runtime.native.architectures.repeated import MOST
from heavylift_runtime.native.news import News
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import arrival, core_of, model_on, run

ROOT = Path(__file__).resolve().parent.parent
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "native_memory.json").read_text())["settings"]


def predicted(setting: dict[str, Any]) -> int:
    """Bytes of the fullest rank's process."""
    config, degree = setting["config"], setting["ranks"]
    element = BYTES_PER_ELEMENT[setting["dtype"]]
    weights = family_of(config).bytes_per_rank(config, degree, element)
    source, tokens = setting["prompt_tokens"], setting["new_tokens"]
    need = native_need(ModelFacts.of(config), weights, degree, element, setting["rows"], source, tokens)
    return HOST_PROCESS + need.weights + need.loading + need.cache + need.activations


def title(setting: dict[str, Any]) -> str:
    return "-".join(str(setting[key]) for key in ("model", "dtype", "ranks", "rows", "prompt_tokens"))


@pytest.mark.parametrize("setting", MEASURED, ids=title)
def test_the_formula_is_within_its_margin_of_every_measured_peak(setting: dict[str, Any]) -> None:
    peak = max(max(rank["load_peak"], rank["batch_peak"]) for rank in setting["peaks"])

    assert -0.08 <= predicted(setting) / peak - 1 <= MARGIN  # the ledger adds the margin


def test_ranks_measured_alike_as_each_holds_its_share() -> None:
    split = [setting for setting in MEASURED if setting["ranks"] > 1]

    for setting in split:
        peaks = [rank["batch_peak"] for rank in setting["peaks"]]
        assert max(peaks) < 1.06 * min(peaks), title(setting)
    assert {setting["ranks"] for setting in split} == {2, 4}


@pytest.mark.slow
def test_a_peak_measured_now_is_within_the_margin(tmp_path: Path) -> None:
    folder = ROOT / "models" / "tiny-t5"
    setting = {"rows": 16, "tokens": 256, "new": 64, "world": 2, "rank": 0, "dtype": "fp32", "folder": folder}
    setting["meeting"] = f"file://{tmp_path}/meeting"
    program = str(ROOT / "benchmarks" / "native_memory.py")

    def command(rank: int) -> list[str]:
        given = [text for key, value in {**setting, "rank": rank}.items() for text in (f"--{key}", str(value))]
        return [sys.executable, "-W", "ignore", program, *given]

    other = subprocess.Popen(command(1), stdout=subprocess.DEVNULL)
    try:
        first = subprocess.run(command(0), capture_output=True, text=True, timeout=120, check=True)
    finally:
        other.wait(30)

    found = json.loads(first.stdout)
    config = json.loads((folder / "config.json").read_text())
    facts = {"config": config, "dtype": "fp32", "ranks": 2, "rows": 16}
    ours = predicted({**facts, "prompt_tokens": found["prompt_tokens"], "new_tokens": found["new_tokens"]})
    assert ours == pytest.approx(found["batch_peak"], rel=0.1)


@pytest.mark.slow
def test_what_kept_passes_hold_of_rows_around_experts_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated, "OFTEN", 1)
    family, settings = KINDS["mixtral"]
    folder = write_decoder(tmp_path / "model", family, **settings)
    config, rows, dice = json.loads((folder / "config.json").read_text()), 8, Random(1)
    model: Any = model_on(folder)
    texts = [[dice.randint(2, 59) for _ in range(dice.randint(1, 40))] for _ in range(40)]
    arrivals = [arrival(key, text, dice.randint(3, 60)) for key, text in enumerate(texts)]

    run(core_of(model, slots=rows), {number: News((each,)) for number, each in enumerate(arrivals)})

    held = sum(len(block) for block, _ in model._repeated._room._blocks)
    planned = FORMS * HELD * config["num_hidden_layers"] * rows * config["hidden_size"] * 4
    assert MOST == FORMS
    assert planned / 20 < held <= planned
    need = native_need(ModelFacts.of(config), 0, 1, 4, rows, 1, 1)
    assert need.activations > planned and f"+ {planned} for rows" in need.activations_formula
