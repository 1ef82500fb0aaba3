"""`heavylift calibrate --local` on the real runtime: what it measures, writes and leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heavylift.calibrate import measure as measuring
from heavylift.cli import main
from tests.checkout import ROOT, Checkout


@pytest.mark.slow
def test_the_native_engine_is_measured_fitted_and_planned_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("app.py", "cdk.json", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    monkeypatch.setattr(measuring, "BATCHES", (1, 2, 4))
    monkeypatch.chdir(tmp_path)
    file, written = "models/tiny-t5.yaml", tmp_path / "measured.json"

    assert main(["calibrate", file, "--local", "--json", "--output", str(written)]) == 0

    document = json.loads(written.read_text())
    rows = {(row["degree"], row["batch"]): row for row in document["rows"]}
    assert set(rows) >= {(1, 1), (1, 2), (1, 4)} and rows[1, 2]["held_out"] and not rows[1, 4]["held_out"]
    for row in rows.values():
        assert row["tokens_per_second"] > 0 and abs(row["memory_error"]) < 0.10
    assert Checkout(tmp_path, 0).processes() == []
    capsys.readouterr()

    assert main(["plan", file, "--json", "--measured", str(written)]) == 0

    plan = json.loads(capsys.readouterr().out)
    assert plan["performance"]["calibrated"] and "native local on cpu" in plan["performance"]["calibration"]
