"""Artifacts and images that are made in the account: their templates, under the eyes of nag, lint and botocore."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from heavylift.errors import InputError
from heavylift.local.plugin.shapes import Shapes
from heavylift.plan.ahead import NEURON_FORMAT
from heavylift.plan.images import NEURON_SDK, NEURON_SDKS
from heavylift.plan.parts import Instance, Job, Variant
from heavylift_cdk.docker import build_arguments
from tests.cdk import FLAGS, ROOT, App, Synthesized, plan, resolve
from tests.judges import add_nag, lint, nag

ROLE = "arn:aws:iam::123456789012:role/heavylift"
KEY, OTHER = "e2" * 32, "f3" * 32
PARTITION = Job(
    "partition", KEY, "ml.m5.xlarge", 64, 3600, {"OPTION_TENSOR_PARALLEL_DEGREE": "2"}, {"tensor_parallel_degree": 2}
)
COMPILE = Job(
    "compile",
    OTHER,
    "ml.m5.12xlarge",
    64,
    14_400,
    {"OPTION_N_POSITIONS": "512,2048", "NEURON_PLATFORM_TARGET_OVERRIDE": "inf2"},
    {"instance": "inf2", "degree": 2},
)
TRAINED = replace(COMPILE, key="a4" * 32, instance_type="ml.trn1.32xlarge")
INF2 = Instance("ml.inf2.8xlarge", 1, 32, 128.0, "Inferentia2", 1, 32.0, False, 25.0, None)
NEURON = Variant(600, 3600, 128, "al2-ami-sagemaker-inference-neuron-2")
STACKS = ("heavylift-partitioned", "heavylift-compiled", "heavylift-trained")


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    """Every kind of job; the first on an image that CodeBuild makes, the others on one based on AWS's own."""
    from heavylift_cdk import RuntimeImage
    from stacks.foundation import FoundationStack
    from stacks.serving import ServingStack

    folder = tmp_path_factory.mktemp("assembly")
    app = App(outdir=str(folder), context=FLAGS)
    add_nag(app)
    foundation = FoundationStack(app, "heavylift-foundation")
    for name, job, hardware in (
        ("partitioned", PARTITION, "cpu"),
        ("compiled", COMPILE, "neuron"),
        ("trained", TRAINED, "neuron"),
    ):
        image = RuntimeImage.from_codebuild(
            hardware,
            repository=foundation.images,
            weights=foundation.store,
            log_group=foundation.log_group,
            neuron_sdk=None if hardware == "cpu" else NEURON_SDK,
        )
        made = plan(name=name, job=job, **({} if hardware == "cpu" else {"instance": INF2, "variant": NEURON}))
        file = f"models/{name}.yaml"
        ServingStack(app, f"heavylift-{name}", plan=made, model_file=file, foundation=foundation, image=image)
    app.synth()
    return Synthesized(folder)


@pytest.mark.slow
def test_nag_and_lint_find_nothing(synthesized: Synthesized) -> None:
    assert nag(synthesized) == []
    assert [fault for stack in ("heavylift-foundation", *STACKS) for fault in lint(synthesized, stack)] == []


@pytest.mark.parametrize(("stack", "job"), [*zip(STACKS, (PARTITION, COMPILE), strict=False)])
def test_sagemakers_own_model_accepts_the_job(synthesized: Synthesized, stack: str, job: Job) -> None:
    wanted = resolve(synthesized.only(stack, "Custom::HeavyliftPrepared"))
    request = {**json.loads(wanted["Job"]), "ProcessingJobName": f"heavylift-{job.key[:32]}-1"}

    Shapes("sagemaker").check("CreateProcessingJob", request | {"RoleArn": ROLE})  # types, enums, lengths, patterns
    assert request["AppSpecification"]["ContainerArguments"] == [job.kind]
    assert "ContainerEntrypoint" not in request["AppSpecification"], "the image's own"
    assert request["NetworkConfig"] == {"EnableNetworkIsolation": True}
    (source,), (target,) = request["ProcessingInputs"], request["ProcessingOutputConfig"]["Outputs"]
    assert source["S3Input"]["LocalPath"] == "/opt/ml/processing/input/model"
    assert source["S3Input"]["S3Uri"].endswith(f"/weights/{'a1' * 32}/")
    assert target["S3Output"]["LocalPath"] == "/opt/ml/processing/output/model"
    assert target["S3Output"]["S3Uri"].endswith(f"/artifacts/{job.key}/")
    assert request["Environment"] == job.options
    assert (wanted["Key"], json.loads(wanted["Expected"])) == (job.key, job.expected)


@pytest.mark.slow
def test_botocore_would_refuse_an_inf2_for_either_job_and_neuroncores_for_processing() -> None:
    service = botocore.session.get_session().get_service_model("sagemaker")
    processing, training = (service.shape_for(f"{kind}InstanceType").enum for kind in ("Processing", "Training"))

    assert not [each for each in processing if each.startswith(("ml.inf", "ml.trn"))], "so processors compile there"
    assert not [each for each in training if each.startswith("ml.inf")] and TRAINED.instance_type in training


def test_sagemakers_own_model_accepts_the_training_job(synthesized: Synthesized) -> None:
    wanted = resolve(synthesized.only("heavylift-trained", "Custom::HeavyliftPrepared"))
    request = {**json.loads(wanted["Job"]), "TrainingJobName": f"heavylift-{TRAINED.key[:32]}-1"}

    Shapes("sagemaker").check("CreateTrainingJob", request | {"RoleArn": ROLE})
    assert request["EnableNetworkIsolation"] is True
    assert "VolumeSizeInGB" not in request["ResourceConfig"], "the type has disks of its own"
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["model"], "what `train` reads"
    assert request["OutputDataConfig"]["CompressionType"] == "NONE"
    assert request["OutputDataConfig"]["S3OutputPath"].endswith("/jobs/training")
    assert request["Environment"] == TRAINED.options
    (rule,) = (
        synthesized.template("heavylift-trained")
        .find_resources("AWS::Events::Rule", {"Properties": {"EventPattern": {"source": ["aws.sagemaker"]}}})
        .values()
    )
    assert rule["Properties"]["EventPattern"]["detail-type"] == ["SageMaker Training Job State Change"]


def test_the_container_loads_what_the_job_makes_and_waits_for_it(synthesized: Synthesized) -> None:
    partitioned, compiled, trained = (resolve(synthesized.only(each, "AWS::SageMaker::Model")) for each in STACKS)

    environment = partitioned["PrimaryContainer"]["Environment"]
    assert environment["OPTION_MODEL_ID"].endswith(f"/artifacts/{KEY}/")
    environment = compiled["PrimaryContainer"]["Environment"]
    assert environment["OPTION_MODEL_ID"].endswith(f"/weights/{'a1' * 32}/")
    assert environment["OPTION_COMPILED_GRAPH_PATH"].endswith(f"/artifacts/{OTHER}/")
    environment = trained["PrimaryContainer"]["Environment"]
    assert environment["OPTION_COMPILED_GRAPH_PATH"].endswith(f"/artifacts/{TRAINED.key}/")
    for stack in STACKS:
        resources = synthesized.json(stack)["Resources"]
        (model,) = [each for each in resources.values() if each["Type"] == "AWS::SageMaker::Model"]
        (made,) = [id for id, each in resources.items() if each["Type"] == "Custom::HeavyliftPrepared"]
        (built,) = [id for id, each in resources.items() if each["Type"] == "Custom::HeavyliftImage"]
        ends = {id: each for id, each in resources.items() if each["Type"] == "AWS::CloudFormation::WaitCondition"}
        assert {made, built, *ends} <= set(model["DependsOn"])
        told = {each["DependsOn"][0]: id for id, each in ends.items()}
        assert set(told) == {made, built}, "each waits for what has begun"
        assert told[built] in resources[made]["DependsOn"], "the job runs on the image"


def test_a_job_may_take_twelve_hours_and_another_artifact_has_a_wait_of_its_own(synthesized: Synthesized) -> None:
    for stack, key in zip(STACKS, (KEY, OTHER, TRAINED.key), strict=True):
        resources = synthesized.json(stack)["Resources"]
        (asked,) = [each["Properties"] for each in resources.values() if each["Type"] == "Custom::HeavyliftPrepared"]
        handle = asked["Told"]["Ref"]
        (end,) = [
            each["Properties"] for each in resources.values()
            if each["Type"] == "AWS::CloudFormation::WaitCondition" and each["Properties"]["Handle"] == {"Ref": handle}
        ]  # fmt: skip
        assert end["Timeout"] == "43200"
        assert resources[handle]["Type"] == "AWS::CloudFormation::WaitConditionHandle"
        assert key[:16] in handle, "CloudFormation updates none"


def test_another_function_tells_the_stack_where_the_jobs_own_dies_and_may_do_nothing_else(
    synthesized: Synthesized,
) -> None:
    for stack in STACKS:
        resources = synthesized.json(stack)["Resources"]
        jobs = [
            id
            for id, each in resources.items()
            if each.get("Properties", {}).get("Handler") == "lambdas.jobs.index.handler"
        ]
        configs = [each for each in resources.values() if each["Type"] == "AWS::Lambda::EventInvokeConfig"]
        assert len(jobs) == len(configs) == 2, "the image's, and the artifact's"
        for config in configs:
            said = config["Properties"]
            job, lost = (
                said["FunctionName"]["Ref"],
                said["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0],
            )
            assert said["Qualifier"] == "$LATEST" and job in jobs
            assert resources[lost]["Properties"]["Handler"] == "lambdas.jobs.lost.handler"
            same = ("KIND", "BUCKET", "STACK")
            given, others = (resources[each]["Properties"]["Environment"]["Variables"] for each in (job, lost))
            assert set(others) == set(same) and [given[name] for name in same] == [others[name] for name in same]
            may = statements(resources, job)
            assert {
                "Action": "lambda:InvokeFunction",
                "Effect": "Allow",
                "Resource": {"Fn::GetAtt": [lost, "Arn"]},
            } in may
            actions = [each["Action"] for each in statements(resources, lost)]
            assert actions == [
                "cloudformation:DescribeStacks", "s3:ListBucket", ["s3:DeleteObject", "s3:GetObject"], "kms:Decrypt",
                ["logs:CreateLogStream", "logs:PutLogEvents"],
            ]  # fmt: skip
            policies = {id for id, each in resources.items() if each["Type"] == "AWS::IAM::Policy"}
            waits = {*config["DependsOn"], *resources[job]["DependsOn"]}
            assert job in waits and policies & waits, "Lambda refuses a destination that the role may not call"
        begun = [
            each
            for each in resources.values()
            if each["Type"] in ("Custom::HeavyliftPrepared", "Custom::HeavyliftImage")
        ]
        ids = {id for id, each in resources.items() if each["Type"] == "AWS::Lambda::EventInvokeConfig"}
        assert all(ids & set(each["DependsOn"]) for each in begun), "a short job could end before it stands"


def statements(resources: dict[str, Any], function: str) -> list[dict[str, Any]]:
    """What a function's own policy allows."""
    role = resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]
    return [
        statement
        for each in resources.values()
        if each["Type"] == "AWS::IAM::Policy" and each["Properties"]["Roles"] == [{"Ref": role}]
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
    ]


def test_no_right_is_wider_than_what_is_done(synthesized: Synthesized) -> None:
    for stack in STACKS:
        policies = synthesized.template(stack).find_resources("AWS::IAM::Policy").items()
        for policy in [each for id, each in policies if any(part in id for part in ("Prepar", "Training", "Image"))]:
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                assert not [action for action in actions if action.endswith("*")], actions
                if statement["Resource"] == "*":
                    assert set(actions) <= {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}, actions
                if actions == ["iam:PassRole"]:
                    assert statement["Condition"] == {
                        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
                    }


def test_images_are_scanned_and_their_tags_never_move(synthesized: Synthesized) -> None:
    repository = synthesized.only("heavylift-foundation", "AWS::ECR::Repository")

    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    for stack, hardware in zip(STACKS, ("cpu", "neuron", "neuron"), strict=True):
        image = synthesized.only(stack, "Custom::HeavyliftImage")
        assert image["Tag"].startswith(f"{hardware}-") and len(image["Tag"].partition("-")[2]) == 40
        assert set(image) == {"ServiceToken", "ServiceTimeout", "Repository", "Tag", "Told"}, (
            "nothing else starts a build"
        )


def test_the_build_says_what_the_tests_of_the_image_say_and_is_sound_shell(synthesized: Synthesized) -> None:
    cpu, neuron, _ = (synthesized.only(stack, "AWS::CodeBuild::Project") for stack in STACKS)

    spec = json.loads(cpu["Source"]["BuildSpec"])
    commands = [line for phase in spec["phases"].values() for line in phase["commands"]]
    (build,) = [line for line in commands if line.startswith("docker build")]
    assert shlex.split(build)[2:] == build_arguments("cpu", "$REPOSITORY:$TAG", ".", {})
    based = json.loads(neuron["Source"]["BuildSpec"])["phases"]["build"]["commands"][0]
    assert f"--build-arg=BASE_IMAGE={NEURON_SDKS[NEURON_SDK]}" in shlex.split(based)
    for line in (*commands, based):
        subprocess.run(["bash", "-n", "-c", line], check=True)
    assert cpu["Environment"]["PrivilegedMode"] is True
    names = {each["Name"] for each in neuron["Environment"]["EnvironmentVariables"]}
    assert names == {"DOCKER_BUILDKIT", "REGISTRY", "REPOSITORY"}


def test_another_runtime_is_another_tag_and_another_file_is_not(tmp_path: Path) -> None:
    from aws_cdk import AssetStaging

    from heavylift_cdk import RuntimeImage
    from stacks.foundation import FoundationStack

    def tag(number: int) -> str:
        AssetStaging.clear_asset_hash_cache()  # it remembers a folder by its path for as long as Node lives
        app = App(outdir=str(tmp_path / f"out{number}"), context=FLAGS)
        foundation = FoundationStack(app, "heavylift-foundation")
        image = RuntimeImage.from_codebuild(
            "cpu",
            repository=foundation.images,
            weights=foundation.store,
            log_group=foundation.log_group,
            checkout=tmp_path / "checkout",
        )
        uri: str = image.bind(foundation).uri
        return uri.rpartition(":")[2]

    for file in ("container/Dockerfile.cpu", "container/Dockerfile.gpu", "runtime/a.py", "README.md"):
        (tmp_path / "checkout" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / file).write_text("1")
    first = tag(1)
    (tmp_path / "checkout" / "README.md").write_text("2")
    (tmp_path / "checkout" / "container" / "Dockerfile.gpu").write_text("2")
    same = tag(2)
    (tmp_path / "checkout" / "runtime" / "a.py").write_text("2")
    other = tag(3)

    assert first == same != other


def test_a_neuron_sdk_that_no_container_of_awss_has_is_refused() -> None:
    from heavylift_cdk.runtime_image import _with_sdk

    dockerfile = (ROOT / "container" / "Dockerfile.neuron").read_text()
    assert _with_sdk(None) is None and f"ARG BASE_IMAGE={NEURON_SDKS[NEURON_SDK]}\n" in dockerfile
    with pytest.raises(InputError, match=r"Python 3.11 has the Neuron SDK 9.9.9: use 2.26.1 or "):
        _with_sdk("9.9.9")


def test_the_formats_are_the_runtimes_own() -> None:
    from heavylift.plan.ahead import PARTITION_FORMAT
    from heavylift.weights.partition import FORMAT
    from heavylift_runtime.engines.neuronx_artifact import FORMAT as OURS

    assert (PARTITION_FORMAT, NEURON_FORMAT) == (FORMAT, OURS)
