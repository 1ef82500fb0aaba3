"""BenchmarkGate: its asset, and that it runs with nothing else of ours; its rights, its time, its alarm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

import heavylift
from heavylift.benchmark import violation
from heavylift.plan.parts import Gate
from heavylift_cdk import benchmark_function, slo_alarm
from tests.cdk import ROOT, App, AssetStaging, Stack, plan, s3_assets, synthesize


def staged(root: Path, assembly: Path) -> Path:
    """The asset's folder, as the CDK CLI would zip it; its name is the hash."""
    AssetStaging.clear_asset_hash_cache()  # it remembers a folder by its path for as long as Node lives
    app = App(outdir=str(assembly))
    stack = Stack(app, "stack")
    benchmark_function.benchmark_code(root).bind(stack)
    (asset,) = [each for each in stack.node.find_all() if isinstance(each, s3_assets.Asset)]
    return assembly / Path(asset.asset_path).name


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the core, to edit."""
    shutil.copytree(ROOT / "heavylift", tmp_path / "copy" / "heavylift")
    (tmp_path / "copy" / "stacks").mkdir()
    return tmp_path / "copy"


def test_the_asset_is_the_benchmark_and_the_empty_init_above_it(tmp_path: Path) -> None:
    folder = staged(ROOT, tmp_path)

    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    expected = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "heavylift" / "benchmark").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files == {"heavylift/__init__.py"} | expected
    assert "heavylift/benchmark/handler.py" in files


@pytest.mark.slow
def test_the_asset_runs_with_nothing_else_of_ours(tmp_path: Path) -> None:
    folder = staged(ROOT, tmp_path)
    boto = Path(boto3.__file__).parents[1]  # on the path by name: no .pth file adds our checkout
    program = f"""
import sys
sys.path[:0] = [{str(folder)!r}, {str(boto)!r}]
from heavylift.benchmark.handler import handler
import heavylift
assert heavylift.__file__.startswith({str(folder)!r}), heavylift.__file__
assert callable(handler)
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""

    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "boto3" in loaded
    assert not loaded & {"aws_cdk", "jinja2", "numpy", "pydantic", "rich", "torch", "yaml"}


@pytest.mark.parametrize(
    "edited",
    ["heavylift/errors.py", "heavylift/plan/fit.py", "heavylift/benchmark/__pycache__/run.pyc", "stacks/serving.py"],
)
def test_an_edit_elsewhere_leaves_the_asset_alone(copy: Path, tmp_path: Path, edited: str) -> None:
    before = staged(copy, tmp_path / "assembly").name

    (copy / edited).parent.mkdir(exist_ok=True)
    (copy / edited).write_text("# second\n")

    assert staged(copy, tmp_path / "assembly").name == before


@pytest.mark.parametrize("edited", ["heavylift/benchmark/run.py", "heavylift/benchmark/workloads/four-tasks.jsonl"])
def test_an_edit_of_the_benchmark_makes_another_asset(copy: Path, tmp_path: Path, edited: str) -> None:
    before = staged(copy, tmp_path / "assembly").name

    (copy / edited).write_text("# second\n")

    assert staged(copy, tmp_path / "assembly").name != before


def test_the_asset_is_taken_from_the_installed_core() -> None:
    assert heavylift.__file__ is not None

    assert Path(heavylift.__file__).parents[1] == benchmark_function.CORE


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The resources of one stack for each kind of gate."""
    benchmark = plan().benchmark
    assert benchmark is not None
    made = synthesize(
        tmp_path_factory.mktemp("gates"),
        plan(name="short"),
        plan(name="held", gate=Gate("hold", "fail")),
        plan(name="warned", gate=Gate("warn", "fail")),
        plan(name="long", benchmark=replace(benchmark, max_seconds=1500)),
        plan(name="longest", benchmark=replace(benchmark, max_seconds=3300)),
        plan(name="streamed", benchmark=replace(benchmark, stream=True)),
    )
    names = ("short", "held", "warned", "long", "longest", "streamed")
    return {name: made.json(f"heavylift-{name}")["Resources"] for name in names}


def of(kind: str, resources: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in resources.values() if each["Type"] == kind]


def statements(resources: dict[str, Any], action: str) -> list[dict[str, Any]]:
    policies = of("AWS::IAM::Policy", resources)
    found = [each for policy in policies for each in policy["Properties"]["PolicyDocument"]["Statement"]]
    return [each for each in found if action in (each["Action"], *each["Action"])]


def test_the_alarm_is_on_the_metric_that_the_lambda_puts(gates: dict[str, dict[str, Any]]) -> None:
    (alarm,) = of("AWS::CloudWatch::Alarm", gates["short"])

    assert (slo_alarm.NAMESPACE, slo_alarm.METRIC, slo_alarm.DIMENSION) == (
        violation.NAMESPACE, violation.METRIC, violation.DIMENSION,
    )  # fmt: skip
    properties = alarm["Properties"]
    assert (properties["Namespace"], properties["MetricName"]) == ("Heavylift", "SloViolation")
    assert properties["Dimensions"] == [{"Name": "EndpointName", "Value": "short"}]
    assert properties["Threshold"] <= violation.VALUES["FAIL"] and properties["Threshold"] > violation.VALUES["PASS"]
    assert properties["TreatMissingData"] == "ignore"
    assert properties["Statistic"] == "Minimum", "a rollback's 0 wins over the 1 of the same minute"
    assert "AlarmName" not in properties


def test_who_only_warns_has_no_alarm_and_who_holds_has_one(gates: dict[str, dict[str, Any]]) -> None:
    assert of("AWS::CloudWatch::Alarm", gates["warned"]) == []
    assert len(of("AWS::CloudWatch::Alarm", gates["held"])) == 1


def test_metrics_may_be_put_in_our_namespace_only(gates: dict[str, dict[str, Any]]) -> None:
    (statement,) = statements(gates["short"], "cloudwatch:PutMetricData")

    assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Heavylift"}}


def test_the_function_may_call_the_endpoint_in_the_one_way_that_it_needs(gates: dict[str, dict[str, Any]]) -> None:
    whole, streamed = "sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"

    assert [len(statements(gates["short"], action)) for action in (whole, streamed)] == [1, 0]
    assert [len(statements(gates["streamed"], action)) for action in (whole, streamed)] == [0, 1]


@pytest.mark.parametrize(("name", "seconds"), [("short", 960), ("long", 1860), ("longest", 3600)])
def test_cloudformation_waits_as_long_as_the_run_may_take(
    gates: dict[str, dict[str, Any]], name: str, seconds: int
) -> None:
    (gate,) = of("Custom::HeavyliftBenchmarkGate", gates[name])

    assert int(gate["Properties"]["ServiceTimeout"]) == seconds


def test_only_a_long_run_may_call_its_own_function_and_waits_for_that_right(gates: dict[str, dict[str, Any]]) -> None:
    (right,) = statements(gates["long"], "lambda:InvokeFunction")
    (gate,) = of("Custom::HeavyliftBenchmarkGate", gates["long"])
    policy = next(
        id
        for id, each in gates["long"].items()
        if right in each["Properties"].get("PolicyDocument", {}).get("Statement", [])
    )

    assert statements(gates["short"], "lambda:InvokeFunction") == []
    assert right["Resource"] == gate["Properties"]["ServiceToken"]
    assert policy in gate["DependsOn"]
