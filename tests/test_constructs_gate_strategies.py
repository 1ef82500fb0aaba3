"""The gate before the endpoint, and the load of several generators: order, rights, and others' checks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from heavylift.plan.parts import Gate
from tests.cdk import Synthesized, plan, resolve, synthesize
from tests.judges import add_nag, lint, nag


def plans() -> dict[str, Any]:
    benchmark = plan().benchmark
    assert benchmark is not None
    many = replace(benchmark, load={"mode": "open", "arrivals": "poisson", "rate": 300.0, "generators": 4})
    return {
        "staged": plan(name="staged", gate=Gate("rollback", "fail", "staging")),
        "dark": plan(name="dark", gate=Gate("rollback", "fail", "dark_variant")),
        "many": plan(name="many", benchmark=many),
        "darkmany": plan(name="darkmany", benchmark=many, gate=Gate("warn", "fail", "dark_variant")),
    }


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("strategies"), *plans().values(), prepare=add_nag)


def resources(synthesized: Synthesized, name: str) -> dict[str, Any]:
    found: dict[str, Any] = synthesized.json(f"heavylift-{name}")["Resources"]
    return found


def gates(synthesized: Synthesized, name: str) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    """(logical id, resource) of the gate before the endpoint, and of the one after it."""
    found = {i: r for i, r in resources(synthesized, name).items() if r["Type"] == "Custom::HeavyliftBenchmarkGate"}
    (after,) = [i for i, r in found.items() if "Before" in r["Properties"]]
    (before,) = set(found) - {after}
    return before, found[before], after, found[after]


def allowed(synthesized: Synthesized, name: str, action: str) -> list[str]:
    """The last parts of the ARNs that an action is allowed on."""
    found = []
    for each in synthesized.statements(f"heavylift-{name}"):
        if action in (each["Action"] if isinstance(each["Action"], list) else [each["Action"]]):
            rows = each["Resource"] if isinstance(each["Resource"], list) else [each["Resource"]]
            found += [str(resolve(row)).partition("123456789012:")[2] for row in rows]
    return sorted(found)


@pytest.mark.slow
def test_cdk_nag_and_cfn_lint_find_nothing_that_has_no_reason(synthesized: Synthesized) -> None:
    assert nag(synthesized) == []
    assert [fault for name in plans() for fault in lint(synthesized, f"heavylift-{name}")] == []


@pytest.mark.parametrize(("name", "strategy"), [("staged", "staging"), ("dark", "dark_variant")])
def test_the_endpoint_waits_for_the_gate_before_it_and_the_gate_after_it_hears_what_that_one_found(
    synthesized: Synthesized, name: str, strategy: str
) -> None:
    (endpoint,) = [r for r in resources(synthesized, name).values() if r["Type"] == "AWS::SageMaker::Endpoint"]

    id, before, _, after = gates(synthesized, name)

    assert id in endpoint["DependsOn"]
    assert before["Properties"]["Strategy"] == after["Properties"]["Strategy"] == strategy
    assert before["Properties"]["EndpointName"] == name, "the name alone: a reference would wait for the endpoint"
    assert before["Properties"]["EndpointConfigName"] == after["Properties"]["EndpointConfigName"]
    assert after["Properties"]["Before"] == {"Fn::GetAtt": [id, "Verdict"]}
    assert after["Properties"]["BeforeReport"] == {"Fn::GetAtt": [id, "ReportUri"]}
    assert before["Properties"]["ServiceTimeout"] == "3600", "the stage must get ready, too"


def test_staging_may_make_and_delete_one_endpoint_and_touch_no_other(synthesized: Synthesized) -> None:
    staging = "endpoint/staged-staging"

    assert allowed(synthesized, "staged", "sagemaker:DeleteEndpoint") == [staging]
    assert allowed(synthesized, "staged", "sagemaker:CreateEndpoint") == ["endpoint-config/*", staging]
    assert allowed(synthesized, "staged", "sagemaker:UpdateEndpoint") == []
    assert allowed(synthesized, "staged", "sagemaker:InvokeEndpoint") == ["endpoint/staged", staging]


def test_a_dark_variant_may_update_one_endpoint_and_delete_only_its_own_configs(synthesized: Synthesized) -> None:
    own = "endpoint-config/dark-dark-*"

    assert allowed(synthesized, "dark", "sagemaker:UpdateEndpoint") == ["endpoint-config/*", own, "endpoint/dark"]
    assert allowed(synthesized, "dark", "sagemaker:UpdateEndpointWeightsAndCapacities") == ["endpoint/dark"]
    for action in ("CreateEndpointConfig", "DeleteEndpointConfig", "AddTags", "ListTags"):
        assert allowed(synthesized, "dark", f"sagemaker:{action}") == [own]
    for action in ("CreateEndpoint", "DeleteEndpoint"):
        assert allowed(synthesized, "dark", f"sagemaker:{action}") == []


@pytest.mark.parametrize("name", ["staged", "dark"])
def test_configs_that_cloudformation_names_are_told_by_the_models_tag(synthesized: Synthesized, name: str) -> None:
    wide = [
        each
        for each in synthesized.statements(f"heavylift-{name}")
        if str(resolve(each["Resource"])).endswith("-config/*")
    ]

    assert [each["Condition"] for each in wide] == [{"StringEquals": {"aws:ResourceTag/heavylift:model": name}}]
    config = synthesized.only(f"heavylift-{name}", "AWS::SageMaker::EndpointConfig")
    assert {"Key": "heavylift:model", "Value": name} in config["Tags"]


def test_a_gate_after_the_endpoint_alone_has_none_of_these_rights(synthesized: Synthesized) -> None:
    for action in ("CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "CreateEndpointConfig"):
        assert allowed(synthesized, "many", f"sagemaker:{action}") == []


def test_the_state_machine_runs_all_generators_at_once_and_none_twice(synthesized: Synthesized) -> None:
    machine = synthesized.only("heavylift-many", "AWS::StepFunctions::StateMachine")
    definition = json.loads(resolve(machine["DefinitionString"]))
    generate = definition["States"]["Generate"]
    (send,) = generate["ItemProcessor"]["States"].values()

    assert (generate["MaxConcurrency"], generate["ToleratedFailureCount"]) == (4, 0)
    assert generate["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
    assert "Retry" not in send and "Retry" not in generate
    assert generate["ResultPath"] == "$.sent", "the share must reach the states after it; a null is lost on the way"
    for state in ("Generate", "Merge and answer"):
        (catch,) = definition["States"][state]["Catch"]
        assert catch["Next"] == "Answer failure", "CloudFormation is answered whatever happens"


def test_the_gate_waits_until_its_generators_may_run(synthesized: Synthesized) -> None:
    found = resources(synthesized, "many")
    (machine,) = [i for i, each in found.items() if each["Type"] == "AWS::StepFunctions::StateMachine"]
    (gate,) = [each for each in found.values() if each["Type"] == "Custom::HeavyliftBenchmarkGate"]
    starts = {
        id
        for id, each in found.items()
        if each["Type"] == "AWS::IAM::Policy" and "states:StartExecution" in json.dumps(each)
    }

    assert gate["Properties"]["StateMachineArn"] == {"Fn::GetAtt": [machine, "Arn"]}
    assert len(starts) == 2 and starts <= set(gate["DependsOn"])
    invokes = synthesized.statements("heavylift-many")
    assert [each["Resource"] for each in invokes if each["Action"] == "lambda:InvokeFunction"] == [
        gate["Properties"]["ServiceToken"]
    ]
