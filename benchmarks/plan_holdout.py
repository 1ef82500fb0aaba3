"""How wrong the plan's times are, on measurements it has not seen: `python benchmarks/plan_holdout.py`.

Not a unit test, and nothing of the data is kept here. The measurements are `silicon_sample.csv` of the wheel
aiconfigurator-core 0.12.0 (Apache-2.0, NVIDIA): times to the first token and per output token of engines on H100, H200
and B200, 4 to 512 concurrent clients. The wheel is read where it lies (--wheel), or fetched with pip into a temporary
folder; without it the script says so and measures nothing. Printed: mean absolute error (MAPE), bias, in per cent, of
the time per output token; splits by alternate rows, and by leaving out a degree, a batch, a workload; transfers to
another GPU, engine, model, without a refit. The bad ones, too. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heavylift.calibrate.fit import Setting, fit, predicted, predicted_first
from heavylift.plan.facts import accelerators
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Calibration, calibration_for
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.speed import Request
from heavylift.plan.performance.work import Work

PACKAGE, INSIDE = "aiconfigurator-core==0.12.0", "aiconfigurator_core/systems/silicon_sample.csv"
PUBLISHED = {  # what an earlier five-parameter form left, alternate rows; the one to beat
    "h100 vllm": 9.5, "h200 vllm": 7.4, "b200 vllm": 5.5, "h200 trtllm": 8.1, "b200 trtllm": 6.2,
}  # fmt: skip
SYSTEMS = ("h100_sxm", "h200_sxm", "b200_sxm")
WEIGHTS = {"bf16": "none", "fp8": "fp8", "fp4": "mxfp4"}
CACHE = {"vllm": "bf16", "trtllm": "fp8", "sglang": "bf16"}  # the engines' own choice for such checkpoints, assumed
LLAMA = {
    "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256,
}  # fmt: skip
MODELS = {  # the sizes in each model's published config.json
    "meta-llama/Llama-3.1-70B": LLAMA,
    "nvidia/Llama-3.1-8B-Instruct-FP8": LLAMA | {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "Qwen/Qwen3-32B": {
        "model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936},
    "openai/gpt-oss-120b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201088,
        "num_local_experts": 128, "num_experts_per_tok": 4, "sliding_window": 128},
}  # fmt: skip
MODELS["meta-llama/Llama-3.1-8B-Instruct"] = MODELS["nvidia/Llama-3.1-8B-Instruct-FP8"]
SEVENTY, EIGHT, QWEN = "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"
SMALL, OSS = "nvidia/Llama-3.1-8B-Instruct-FP8", "openai/gpt-oss-120b"

Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A row: where it was measured, and the setting that the closed form gets."""

    model: str
    system: str
    engine: str
    precision: str
    setting: Setting


def read(text: str) -> list[Sample]:
    """Aggregated serving, no data or pipeline parallelism, models above; repeated rows once, in the file's order."""
    found: dict[tuple[object, ...], Sample] = {}
    for row in csv.DictReader(io.StringIO(text)):
        model, precision = row["model_path"], row["precision"]
        usual = row["mode"] == "agg" and row["pp_size"] == "1" and row["attention_dp_size"] in ("", "0", "1")
        if not usual or model not in MODELS or row["system"] not in SYSTEMS or precision not in WEIGHTS:
            continue
        work = Work.of(ModelFacts.of(MODELS[model]), "bf16", WEIGHTS[precision], CACHE[row["backend"]])
        gpu = accelerators()[row["system"].partition("_")[0].upper()]
        device = Device.of(gpu, "bf16", WEIGHTS[precision])
        assert device is not None, "the fact tables know these GPUs"
        setting = Setting(
            work, device, int(row["tp_size"]), int(row["batch_size"]),
            Request(float(row["isl"]), float(row["osl"])),
            float(row["silicon_tpot_ms"]) / 1e3, float(row["silicon_ttft_ms"]) / 1e3,
        )  # fmt: skip
        key = (model, row["system"], row["backend"], precision, setting.degree, setting.rows, setting.request,
               setting.per_token, setting.first_token)  # fmt: skip
        found.setdefault(key, Sample(model, row["system"], row["backend"], precision, setting))
    return list(found.values())


def wheel(given: Path | None) -> str | None:
    """The file's text, from the wheel; None where pip cannot fetch it."""
    if given is not None:
        return zipfile.ZipFile(given).read(INSIDE).decode()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        got = subprocess.run([*command, PACKAGE, "--dest", folder], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        return zipfile.ZipFile(wheels[0]).read(INSIDE).decode() if got.returncode == 0 and wheels else None


def errors(settings: Sequence[Setting], calibration: Calibration) -> dict[str, float]:
    """In per cent of what was measured."""
    ratio = predicted(settings, calibration.point()) / np.array([setting.per_token for setting in settings]) - 1
    return {"mape": 100 * float(np.mean(abs(ratio))), "bias": 100 * float(np.mean(ratio)),
            "p90": 100 * float(np.percentile(abs(ratio), 90)), "rows": len(settings)}  # fmt: skip


def leave_one_out(
    settings: Sequence[Setting], key: Callable[[Setting], object], prior: Calibration
) -> dict[str, object]:
    """Each value of `key` is predicted by a fit on all others."""
    parts = []
    for value in sorted({str(key(setting)) for setting in settings}):
        seen = [setting for setting in settings if str(key(setting)) != value]
        unseen = [setting for setting in settings if str(key(setting)) == value]
        parts.append((value, errors(unseen, fit(seen, prior))))
    rows = sum(part["rows"] for _, part in parts)
    worst = max(parts, key=lambda part: part[1]["mape"])
    return {"mape": sum(part["mape"] * part["rows"] for _, part in parts) / rows,
            "worst": worst[1]["mape"], "worst_at": worst[0]}  # fmt: skip


def first_errors(settings: Sequence[Setting], calibration: Calibration) -> float:
    """MAPE of the time to the first token, in per cent, of the settings where no queue had formed."""
    begun = [setting for setting in settings if not setting.saturated]
    measured = np.array([setting.first_token for setting in begun])
    return 100 * float(np.mean(abs(predicted_first(begun, calibration.point()) / measured - 1)))


def split(settings: Sequence[Setting], prior: Calibration) -> Row:
    """One engine on one GPU: fitted on all, on alternate rows, and on all but one degree, batch or workload."""
    half = fit(settings[::2], prior)
    return {
        "rows": len(settings),
        "fit": errors(settings, fit(settings, prior)),
        "alternate": errors(settings[1::2], half),
        "first_token": first_errors(settings[1::2], half),
        "degree": leave_one_out(settings, lambda s: s.degree, prior),
        "batch": leave_one_out(settings, lambda s: s.rows, prior),
        "workload": leave_one_out(settings, lambda s: f"{s.request.prompt:g}/{s.request.answer:g}", prior),
    }


def show_splits(splits: dict[str, Row]) -> None:
    print("Llama-3.1-70B FP8: time per output token, MAPE in per cent on rows that the fit has not seen")
    print(f"{'':13}{'rows':>5}{'fit':>6}{'alternate':>11}{'earlier':>9}", end="")
    print(f"{'one degree':>16}{'one batch':>16}{'one workload':>26}{'first token':>13}")
    for name, row in splits.items():
        cells = {
            key: f"{row[key]['mape']:.1f} ({row[key]['worst_at']}: {row[key]['worst']:.0f})"
            for key in ("degree", "batch", "workload")
        }
        print(f"{name:13}{row['rows']:>5}{row['fit']['mape']:>6.1f}{row['alternate']['mape']:>11.1f}", end="")
        print(f"{PUBLISHED[name]:>9.1f}{cells['degree']:>16}{cells['batch']:>16}{cells['workload']:>26}", end="")
        print(f"{row['first_token']:>13.1f}")


def transfers(samples: Sequence[Sample], prior: Calibration) -> dict[str, Row]:
    """A fit of one row of measurements, or the assumed coefficients, on another one that they have not seen."""

    def pick(model: str, system: str, engine: str, precision: str = "fp8") -> list[Setting]:
        wanted = (model, f"{system}_sxm", engine, precision)
        return [s.setting for s in samples if (s.model, s.system, s.engine, s.precision) == wanted]

    def fitted(system: str, engine: str) -> Calibration:
        return fit(pick(SEVENTY, system, engine), prior)

    gpus, engines = ("h100", "h200", "b200"), ("vllm", "trtllm")
    pairs = [("vllm", a, b) for a in gpus for b in gpus if a != b]
    pairs += [("trtllm", "h200", "b200"), ("trtllm", "b200", "h200")]
    carried = [(f"GPU: {e}, {a} → {b}", fitted(a, e), pick(SEVENTY, b, e)) for e, a, b in pairs]
    turns = [(system, *turn) for system in ("h200", "b200") for turn in (engines, engines[::-1])]
    carried += [(f"engine: {g}, {a} → {b}", fitted(g, a), pick(SEVENTY, g, b)) for g, a, b in turns]
    carried += [("format: b200 vllm, fp8 → fp4", fitted("b200", "vllm"), pick(SEVENTY, "b200", "vllm", "fp4"))]
    others = [(OSS, "h100", "fp4"), (OSS, "h200", "fp4"), (OSS, "b200", "fp4"), (SMALL, "h200", "fp8")]
    for model, gpu, precision in [*others, (QWEN, "h100", "fp8")]:
        title = f"model: {gpu} vllm, 70B → {model.partition('/')[2]} {precision}"
        carried.append((title, fitted(gpu, "vllm"), pick(model, gpu, "vllm", precision)))
    for model, gpu, engine in [(QWEN, "h100", "trtllm"), (OSS, "h100", "trtllm"), (EIGHT, "h200", "sglang")]:
        carried.append((f"assumed: {gpu} {engine}, {model.partition('/')[2]} fp8", prior, pick(model, gpu, engine)))

    rows = {}
    for title, calibration, settings in carried:
        calm = [setting for setting in settings if not setting.saturated]
        parts = {title: settings} | ({f"{title}, unsaturated": calm} if 0 < len(calm) < len(settings) else {})
        for name, part in parts.items():
            rows[name] = {**errors(part, calibration), "refit": errors(part, fit(part, prior))["mape"]}
    return rows


def show_transfers(rows: dict[str, Row]) -> None:
    print("\nwithout a refit: MAPE, bias and 90th percentile in per cent; and what a refit on the same rows leaves")
    for title, row in rows.items():
        print(f"{title:62}{row['rows']:>4} rows{row['mape']:>7.1f}{row['bias']:>+8.1f}{row['p90']:>7.1f}", end="")
        print(f"   refit{row['refit']:>6.1f}")


def coefficients(samples: Sequence[Sample], prior: Calibration, splits: dict[str, Row]) -> list[dict[str, Any]]:
    """vLLM's rows of coefficients.json: fitted on all rows; residuals from those held out (sigma = 1.25 MAPE)."""
    rows = []
    for gpu in ("H100", "H200", "B200"):
        chosen = [
            s.setting
            for s in samples
            if (s.model, s.system, s.engine, s.precision) == (SEVENTY, f"{gpu.lower()}_sxm", "vllm", "fp8")
        ]
        held = splits[f"{gpu.lower()} vllm"]
        row = replace(
            fit(chosen, replace(prior, engine="vllm")),
            version="2025-10",
            subject=SEVENTY,
            accelerators=(gpu,),
            residual=round(1.25 * held["alternate"]["mape"] / 100, 3),
            first_residual=round(1.25 * held["first_token"] / 100, 3),
            date="2025-10-29",
            source=f"Llama-3.1-70B FP8, silicon_sample.csv of {PACKAGE} (Apache-2.0), fitted by plan_holdout.py",
        )
        rows.append(row.to_dict())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {PACKAGE}, if it is here already")
    parser.add_argument("--coefficients", type=Path, help="write vLLM's rows, as coefficients.json has them")
    args = parser.parse_args()
    text = wheel(args.wheel)
    if text is None:
        print(f"absent: pip cannot fetch {PACKAGE}, whose measurements this script compares with; nothing was measured")
        print(json.dumps({"benchmark": "plan_holdout", "absent": PACKAGE}))
        return
    samples, prior = read(text), calibration_for("any", "any")
    splits = {}
    for name in PUBLISHED:
        gpu, engine = name.split()
        wanted = (SEVENTY, f"{gpu}_sxm", engine, "fp8")
        chosen = [s.setting for s in samples if (s.model, s.system, s.engine, s.precision) == wanted]
        splits[name] = split(chosen, prior)
    show_splits(splits)
    carried = transfers(samples, prior)
    show_transfers(carried)
    if args.coefficients is not None:
        args.coefficients.write_text(json.dumps(coefficients(samples, prior, splits), indent=1), encoding="utf-8")
    unit = "per cent of the measured time per output token"
    print(json.dumps({"benchmark": "plan_holdout", "unit": unit, "how": "measured by others, predicted here",
                      "data": PACKAGE, "splits": splits, "transfers": carried}))  # fmt: skip


if __name__ == "__main__":
    main()
