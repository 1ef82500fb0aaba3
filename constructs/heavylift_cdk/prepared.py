"""Prepared: a model's artifact in the weight bucket, made ahead of time by a SageMaker job of our own image.

Not the job's choice (heavylift.plan.ahead), nor what it runs (the runtime's `partition`, `compile` and `train`), nor
its request (job_request.py). The job has no network: SageMaker brings the model and takes the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift.plan import parts
from heavylift.plan.ahead import compile_job, partition_job
from heavylift.plan.images import NEURON_SDK
from heavylift_cdk.bounds import between, refuse
from heavylift_cdk.checks import acknowledge, acknowledge_objects
from heavylift_cdk.execution_role import ExecutionRole
from heavylift_cdk.job import Job
from heavylift_cdk.job_request import OUTPUT, request
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.weights import Weights
from heavylift_runtime.engines.registry import ENGINES

DOCUMENTS = {"partition": ("partition.json", "partition.json"), "compile": ("neuron.json", "manifest.json")}
"""By the kind of job, where the runtime says what the artifact was made for, and its files: docs/formats.md."""
JOB_NAMES = "heavylift-*"
LONGEST_SECONDS = {"processing": 777_600, "training": 2_419_200}
"""MaxRuntimeInSeconds: API_ProcessingStoppingCondition; API_StoppingCondition, where the account's quota allows it."""
COPYING_SECONDS = 900  # what a training job has made, to its prefix


class Preparing(Construct):
    """What starts the jobs of one stack and waits for them, and the role that they run with.

    `service`: processing jobs run on processors, training jobs on NeuronCores, too.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        weights: Weights,
        log_group: logs.ILogGroup,
        service: Literal["processing", "training"] = "processing",
    ) -> None:
        super().__init__(scope, id)
        self.weights, self.service = weights, service
        self.role = ExecutionRole(self, "Role")
        api, made = service.capitalize(), "artifacts/*.json" if service == "processing" else "artifacts/*"
        jobs = Stack.of(self).format_arn(
            service="sagemaker",
            resource=f"{service}-job",
            resource_name=JOB_NAMES,
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        actions = ("Create", "Describe", "Stop")
        statements = [
            iam.PolicyStatement(
                actions=[*(f"sagemaker:{action}{api}Job" for action in actions), "sagemaker:AddTags"],
                resources=[jobs],
            ),
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self.role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:PutObject"],
                resources=[weights.bucket.arn_for_objects(made)],
            ),
        ]
        self.job = Job(
            self,
            "Job",
            kind=service,
            weights=weights,
            log_group=log_group,
            environment={},
            statements=statements,
            ended=events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=[f"SageMaker {api} Job State Change"],
                detail={
                    f"{api}JobName": [{"prefix": JOB_NAMES.removesuffix("*")}],
                    f"{api}JobStatus": ["Completed", "Failed", "Stopped"],
                },
            ),
            timeout_seconds=120 if service == "processing" else COPYING_SECONDS,
        )
        where = f"arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:{service}-job"
        acknowledge(self, f"IAM5[Resource::{where}/{JOB_NAMES}]", "each job has a name of its own, which begins so")
        acknowledge_objects(self, weights.bucket, made, "each artifact has a prefix of its own, by its key")


class Prepared(Construct):
    """One artifact: `data`, which exists when this has been deployed.

    A job runs only where the artifact of this key is not there; a roll-back to another key finds that one's. `source`:
    the digest of the model's files, in the bucket before. `preparing` is of the job's own service.
    """

    def __init__(
        self, scope: Construct, id: str, *, preparing: Preparing, job: parts.Job, source: str, image: RuntimeImage
    ) -> None:
        super().__init__(scope, id)
        refuse(_faults(job, preparing.service))
        weights, bound = preparing.weights, image.bind(Construct(self, "Runs"))
        written, encrypting = f"{job.prefix}*", ["kms:GenerateDataKey"]
        if job.service == "training":
            written, encrypting = f"{OUTPUT}*", ["kms:Encrypt", "kms:GenerateDataKey"]
        preparing.role.allow_pull(bound.repository_arn)
        model = weights.model(source)
        rights = iam.Policy(
            self,
            "Rights",
            roles=[preparing.role],
            statements=[
                *model.statements(),
                iam.PolicyStatement(actions=["s3:PutObject"], resources=[weights.bucket.arn_for_objects(written)]),
                iam.PolicyStatement(actions=encrypting, resources=[weights.key.key_arn]),
            ],
        )
        for keys in (f"weights/{source}/*", written):
            acknowledge_objects(rights, weights.bucket, keys, "what is below it is one model, or what a job has made")
        asked = request(job, model, weights, image=bound.uri, role=preparing.role)
        properties = {
            "Key": job.key,
            "Bucket": weights.bucket.bucket_name,
            "Prefix": job.prefix,
            "MadeFor": DOCUMENTS[job.kind][0],
            "Files": DOCUMENTS[job.kind][1],
            "Expected": Stack.of(self).to_json_string(job.expected),
            "Job": Stack.of(self).to_json_string(asked),
        }
        begun = preparing.job.resource(self, "Resource", "Custom::HeavyliftPrepared", properties, made=job.key[:16])
        begun.node.add_dependency(rights, preparing.role)
        if bound.after is not None:
            begun.node.add_dependency(bound.after)
        self.data: ModelData = ModelData.from_prefix(weights.bucket, job.prefix)

    @classmethod
    def partitioned(
        cls,
        scope: Construct,
        id: str,
        *,
        preparing: Preparing,
        source: str,
        image: RuntimeImage,
        instance_type: str,
        volume_size_in_gb: int,
        tensor_parallel_degree: int,
        dtype: str,
        quantization: Literal["none", "int8", "int4"] = "none",
        max_hours: int = 6,
    ) -> Prepared:
        """The weights of a plain checkpoint, split over the ranks of the native engine, without a plan."""
        job = partition_job(
            source,
            ENGINES["native"],
            degree=tensor_parallel_degree,
            stages=1,
            dtype=dtype,
            form=quantization,
            stored="none",
            instance_type=instance_type,
            volume_size_in_gb=volume_size_in_gb,
            max_seconds=3600 * max_hours,
        )
        return cls(scope, id, preparing=preparing, job=job, source=source, image=image)

    @classmethod
    def compiled(
        cls,
        scope: Construct,
        id: str,
        *,
        preparing: Preparing,
        source: str,
        image: RuntimeImage,
        instance_type: str,
        volume_size_in_gb: int,
        family: Literal["inf2", "trn1", "trn2"],
        tensor_parallel_degree: int,
        dtype: str,
        options: Mapping[str, str] = MappingProxyType({}),
        neuron_sdk: str = NEURON_SDK,
        max_hours: int = 12,
    ) -> Prepared:
        """The model, compiled for Neuron without a plan; `options` are those of serving.properties, such as
        n_positions. A `preparing` of service training where only NeuronCores compile it."""
        engine = ENGINES["neuronx"]
        given = {
            "engine": engine.engine_property,
            "entryPoint": str(engine.entry_point),
            "tensor_parallel_degree": str(tensor_parallel_degree),
            "dtype": dtype,
            **options,
        }
        job = compile_job(
            source,
            {f"OPTION_{name.upper()}": value for name, value in given.items()},
            family=family,
            degree=tensor_parallel_degree,
            dtype=dtype,
            sdk=neuron_sdk,
            instance_type=instance_type,
            volume_size_in_gb=volume_size_in_gb,
            max_seconds=3600 * max_hours,
        )
        return cls(scope, id, preparing=preparing, job=job, source=source, image=image)


def _faults(job: parts.Job, service: str) -> Iterator[str]:
    """What SageMaker would refuse of the machine."""
    if job.service != service:
        yield f"a {service} job does not run on {job.instance_type}: give a Preparing of service '{job.service}'"
    if job.instance_type.startswith("ml.inf"):
        yield f"SageMaker's jobs have no Inferentia: got {job.instance_type}; ml.trn1 has the same cores as Inf2"
    yield from between("max_seconds", job.max_seconds, 1, LONGEST_SECONDS[service])
