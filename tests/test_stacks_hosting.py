"""What a model file says of hosting, scaling, roll-out and monitoring, in the template of its stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack
from tests.cdk import FLAGS, IMAGE, App, Synthesized, plan
from tests.hosting_files import FILES, KEY, SECRET, TOPIC, others, planned, spec_of
from tests.judges import add_nag, api_faults, lint, nag, of_apis


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    folder = tmp_path_factory.mktemp("models")
    app = App(outdir=str(folder / "assembly"), context=FLAGS)
    add_nag(app)
    foundation = FoundationStack(app, "heavylift-foundation")
    for name, text in FILES.items():
        spec = spec_of(folder, name, text)
        ServingStack(
            app,
            name,
            plan=planned(spec),
            model_file=f"models/{name}.yaml",
            foundation=foundation,
            image=IMAGE,
            spec=spec,
            others=others(spec),
        )
    app.synth()
    return Synthesized(folder / "assembly")


def test_cdk_nag_finds_nothing_that_has_no_reason(synthesized: Synthesized) -> None:
    assert nag(synthesized) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_cfn_lint_finds_nothing(synthesized: Synthesized, name: str) -> None:
    assert lint(synthesized, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_apis_take_every_request(synthesized: Synthesized, name: str) -> None:
    assert api_faults(of_apis(synthesized, name)) == []


def test_the_variant_is_as_the_file_says(synthesized: Synthesized) -> None:
    config = synthesized.only("full", "AWS::SageMaker::EndpointConfig")
    (variant,) = config["ProductionVariants"]

    assert variant["InitialInstanceCount"] == 4
    assert variant["RoutingConfig"] == {
        "RoutingStrategy": "PREFIX_AWARE",
        "PrefixAwareRoutingConfig": {"PrefixLength": 4096, "ConcurrencyThreshold": 16},
    }
    assert variant["CapacityReservationConfig"]["MlReservationArn"].endswith("training-plan/mine")
    assert variant["EnableSSMAccess"] is True
    assert config["KmsKeyId"] == KEY
    assert config["MetricsConfig"]["MetricPublishFrequencyInSeconds"] == 30
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    model = synthesized.only("full", "AWS::SageMaker::Model")
    assert model["VpcConfig"] == {"SecurityGroupIds": ["sg-0123456789abcdef0"], "Subnets": ["subnet-0123456789abcdef0"]}


def test_an_update_is_a_canary_that_the_files_alarms_take_back(synthesized: Synthesized) -> None:
    endpoint = synthesized.only("full", "AWS::SageMaker::Endpoint")
    alarms = synthesized.template("full").find_resources("AWS::CloudWatch::Alarm")

    policy = endpoint["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    watched = [each["AlarmName"]["Ref"] for each in endpoint["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]]
    assert policy["TrafficRoutingConfiguration"]["Type"] == "CANARY"
    assert policy["MaximumExecutionTimeoutInSeconds"] == 3600
    assert sorted(watched) == sorted(alarms)
    assert all(each["Properties"]["AlarmActions"] == [TOPIC] for each in alarms.values())
    periods = {each["Properties"]["MetricName"]: each["Properties"]["EvaluationPeriods"] for each in alarms.values()}
    assert periods == {"ModelLatency": 3, "Invocation5XXErrors": 5, "CPUUtilization": 3}
    assert {each["Properties"]["TreatMissingData"] for each in alarms.values()} == {"notBreaching", "ignore"}


def test_instances_follow_the_concurrency_that_one_of_them_can_take(synthesized: Synthesized) -> None:
    tracking = synthesized.only("full", "AWS::ApplicationAutoScaling::ScalingPolicy")
    target = synthesized.only("full", "AWS::ApplicationAutoScaling::ScalableTarget")

    policy = tracking["TargetTrackingScalingPolicyConfiguration"]
    metric = policy["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert metric == "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    assert policy["TargetValue"] == 4, "batch_size · workers"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)
    assert [each["ScheduledActionName"] for each in target["ScheduledActions"]] == ["night"]


def test_components_share_instances_that_may_all_go(synthesized: Synthesized) -> None:
    (variant,) = synthesized.only("components", "AWS::SageMaker::EndpointConfig")["ProductionVariants"]
    components = [
        each["Properties"]
        for each in synthesized.json("components")["Resources"].values()
        if each["Type"] == "AWS::SageMaker::InferenceComponent"
    ]
    found: dict[str, dict[str, Any]] = {each["InferenceComponentName"]: each["Specification"] for each in components}

    assert variant["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert "ModelName" not in variant
    assert set(found) == {"english", "french", "small"}
    english = found["english"]["ComputeResourceRequirements"]
    assert english["NumberOfAcceleratorDevicesRequired"] == 2
    assert english["MinMemoryRequiredInMb"] == 9 * 1024, "the ledger's host memory"
    assert found["french"]["Container"] == {"ArtifactUrl": "s3://adapters/french.tar.gz"}
    assert "BaseInferenceComponentName" in found["french"]
    assert found["small"]["ComputeResourceRequirements"]["MinMemoryRequiredInMb"] == 4096


def test_a_shadow_and_variants_have_what_they_say_and_the_rest_from_the_file(synthesized: Synthesized) -> None:
    config = synthesized.only("shadowed", "AWS::SageMaker::EndpointConfig")
    split = synthesized.only("split", "AWS::SageMaker::EndpointConfig")["ProductionVariants"]

    (shadow,) = config["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["InstanceType"]) == ("candidate", "ml.g5.xlarge")
    assert "VolumeSizeInGB" not in shadow, "it has a disk of its own"
    assert shadow["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert [(each["VariantName"], each["InitialVariantWeight"], each["InitialInstanceCount"]) for each in split] == [
        ("live", 9, 1),
        ("next", 1, 3),
    ]


def test_a_variant_with_options_of_its_own_reads_a_configuration_of_its_own(synthesized: Synthesized) -> None:
    models = [
        each["Properties"]["PrimaryContainer"]
        for each in synthesized.json("split")["Resources"].values()
        if each["Type"] == "AWS::SageMaker::Model"
    ]

    read = [json.dumps(each["ModelDataSource"]).partition("/config/")[2][:64] for each in models]
    assert read == ["b2" * 32, "e5" * 32]
    assert [each["Environment"].get("A") for each in models] == [None, "b"]
    ready = synthesized.only("split", "Custom::HeavyliftWeightsReady")["Keys"]
    assert [key.partition("/")[0] for key in ready] == ["weights", "config", "config"]


def test_a_secret_travels_by_its_arn_and_the_role_may_read_it_alone(synthesized: Synthesized) -> None:
    model = synthesized.only("confided", "AWS::SageMaker::Model")["PrimaryContainer"]

    assert model["Environment"]["HF_TOKEN_SECRET_ARN"] == SECRET
    assert "HF_TOKEN" not in model["Environment"]
    reading = [each for each in synthesized.statements("confided") if "secretsmanager" in json.dumps(each)]
    assert reading == [{"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": SECRET}]


def test_a_multi_model_endpoint_reads_archives_and_gives_each_the_files_options(synthesized: Synthesized) -> None:
    model = synthesized.only("many", "AWS::SageMaker::Model")["PrimaryContainer"]

    assert model["Mode"] == "MultiModel"
    assert model["ModelDataUrl"] == "s3://archives/models/"
    assert model["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    assert "ModelDataSource" not in model
    assert model["Environment"]["OPTION_TENSOR_PARALLEL_DEGREE"] == "2"
    kinds = {each["Type"] for each in synthesized.json("many")["Resources"].values()}
    assert "Custom::HeavyliftWeightsReady" not in kinds, "archives come and go"


def test_pools_replace_the_one_type(synthesized: Synthesized) -> None:
    (variant,) = synthesized.only("pooled", "AWS::SageMaker::EndpointConfig")["ProductionVariants"]

    assert "InstanceType" not in variant
    assert [(each["InstanceType"], each["Priority"]) for each in variant["InstancePools"]] == [
        ("ml.c6i.xlarge", 1),
        ("ml.m5.xlarge", 2),
    ]
    assert variant["VariantInstanceProvisionTimeoutInSeconds"] == 900


def test_what_cannot_be_built_is_refused_at_once(tmp_path: Path) -> None:
    app = App(context=FLAGS)
    alarm = "monitoring: {alarms: [{metric: cost, max_usd_per_hour: 1}]}"
    spec = spec_of(tmp_path, "refused", f"instance_type: ml.c6i.xlarge\n{alarm}\n")

    with pytest.raises(InputError) as raised:
        ServingStack(
            app,
            "refused",
            plan=plan(name="refused"),
            model_file="models/refused.yaml",
            foundation=FoundationStack(app, "heavylift-foundation"),
            image=IMAGE,
            spec=spec,
        )

    sentence = "refused: no price of ml.c6i.xlarge is known, so there is no alarm on 'cost'"
    assert raised.value.faults == (sentence,)


def test_a_stack_that_no_gate_measures_looks_at_the_live_configuration(synthesized: Synthesized) -> None:
    properties = synthesized.only("full", "Custom::HeavyliftLiveConfig")

    assert properties["EndpointName"]["Fn::GetAtt"][1] == "EndpointName"
    assert properties["EndpointConfigName"]["Fn::GetAtt"][1] == "EndpointConfigName"
