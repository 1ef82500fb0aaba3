"""Every template of every example file under the eyes of others: cfn-lint, cdk-nag, botocore's models, checkov.

Checkov has an environment of its own, for it pins what we pin otherwise: `make checkov`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from heavylift.local.plugin.shapes import Shapes
from tests.cdk import ROOT, Synthesized, resolve
from tests.examples import examples, synthesize_examples
from tests.judges import api_faults, lint, nag, of_apis

pytestmark = pytest.mark.slow

FOUNDATION = "heavylift-foundation"
STACKS = (FOUNDATION, *examples())
CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"
KEPT = {
    "CKV_AWS_115": "a reserved share is taken from the account's others, and refused where the account has few",
    "CKV_AWS_116": "CloudFormation waits for the answer itself, and a lost one fails the deployment",
    "CKV_AWS_117": "the functions call AWS's own endpoints only; in a VPC they would need a way out of it",
    "CKV_AWS_18": "CloudTrail's data events log access where that is wanted, to a bucket that is not ours to choose",
    "CKV_AWS_370": "by default the ranks read their weights from S3; `enable_network_isolation` is the file's to say",
    "CKV_AWS_136": "an image is the checkout's own code; ECR encrypts it with a key of AWS's",
    "CKV_AWS_173": "their environment is the name of a bucket; no secret is in it",
}
"""Findings of checkov that stay, each with the reason."""


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def checkov(synthesized: Synthesized) -> dict[str, list[tuple[str, str]]]:
    """Stack → id and resource of each failed check."""
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed: `make checkov` brings it from PyPI")
    named = [f"--file={synthesized.folder / f'{stack}.template.json'}" for stack in STACKS]
    options = ["--framework=cloudformation", "--output=json", "--quiet", "--compact", "--skip-download"]
    done = subprocess.run(
        [str(CHECKOV), *options, *named], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > len(STACKS), "it has looked at them"
    for each in report["results"]["failed_checks"]:
        found[Path(each["file_path"]).name.removesuffix(".template.json")].append((each["check_id"], each["resource"]))
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(synthesized: Synthesized, stack: str) -> None:
    assert lint(synthesized, stack) == []


@pytest.mark.parametrize("stack", STACKS)
def test_cdk_nag_finds_nothing_that_has_no_reason(synthesized: Synthesized, stack: str) -> None:
    assert [each for each in nag(synthesized) if stack in json.dumps(each)] == []


@pytest.mark.parametrize("stack", examples())
def test_the_apis_take_every_request_that_a_template_makes(synthesized: Synthesized, stack: str) -> None:
    asked = of_apis(synthesized, stack)

    assert api_faults(asked) == []
    kinds = {"AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Endpoint"}
    assert {kind for kind, _ in asked} >= kinds


def test_sagemaker_takes_every_job_that_a_template_asks_for(synthesized: Synthesized) -> None:
    sagemaker, asked = Shapes("sagemaker"), set()
    for stack in STACKS:
        for each in synthesized.json(stack)["Resources"].values():
            if each["Type"] == "Custom::HeavyliftPrepared":
                job = json.loads(resolve(each["Properties"]["Job"]))
                kind = "Training" if "AlgorithmSpecification" in job else "Processing"
                role = "arn:aws:iam::123456789012:role/a"
                sagemaker.check(f"Create{kind}Job", {**job, "RoleArn": role, f"{kind}JobName": "heavylift-1"})
                asked.add((stack, kind))

    assert asked >= {("heavylift-gpt-j-6b", "Training"), ("heavylift-gpt-neox-20b", "Training")}


@pytest.mark.parametrize("stack", STACKS)
def test_checkov_finds_nothing_that_has_no_reason(checkov: dict[str, list[tuple[str, str]]], stack: str) -> None:
    assert [each for each in checkov[stack] if each[0] not in KEPT] == []


def test_every_reason_is_for_a_finding(checkov: dict[str, list[tuple[str, str]]]) -> None:
    assert {id for rows in checkov.values() for id, _ in rows} == set(KEPT)


def test_every_file_and_every_environment_has_a_template(synthesized: Synthesized) -> None:
    made = {file.name.removesuffix(".template.json") for file in synthesized.folder.glob("*.template.json")}

    assert made == set(STACKS)
