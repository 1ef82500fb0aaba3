"""Endpoints with everything that can be said, for the tests of templates. Not a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns

from heavylift_cdk import (
    Alarms,
    Asynchronous,
    Container,
    CoreDump,
    Dashboard,
    DataCapture,
    InferenceComponent,
    Instances,
    Limit,
    ManagedInstances,
    Metrics,
    ModelData,
    ModelEndpoint,
    Network,
    Placement,
    Pool,
    Pools,
    Predictive,
    Resources,
    Rollout,
    Routing,
    Scaling,
    Schedule,
    Serverless,
    Tracking,
    Variant,
)  # fmt: skip
from tests.cdk import FLAGS, IMAGE, App, Stack, Synthesized, s3  # before aws_cdk: it chooses the Node

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf"


def bucket(stack: Stack) -> s3.Bucket:
    """An encrypted bucket, as the foundation's."""
    return s3.Bucket(
        stack,
        "Bucket",
        encryption=s3.BucketEncryption.KMS,
        encryption_key=kms.Key(stack, "Key", enable_key_rotation=True),
        enforce_ssl=True,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        server_access_logs_prefix="log/",
    )


def container(where: s3.IBucket, prefix: str = "weights/a1/") -> Container:
    """One with files below a prefix."""
    return Container(IMAGE, ModelData.from_prefix(where, prefix), {"LOG_LEVEL": "info"})


def everything(stack: Stack) -> None:
    """One real-time variant with every property that goes together; roll-out, alarms, dashboard, scaling."""
    where = bucket(stack)
    token = secretsmanager.Secret.from_secret_complete_arn(stack, "Token", SECRET)
    own = Container(IMAGE, ModelData.from_prefix(where, "weights/a1/"), {"LOG_LEVEL": "info"}, {"HF_TOKEN": token})
    a = Variant(
        Instances("ml.c6i.xlarge", 4),
        (own,),
        name="a",
        weight=9,
        model_data_download_timeout_in_seconds=600,
        container_startup_health_check_timeout_in_seconds=1200,
        volume_size_in_gb=64,
        routing=Routing("prefix_aware", prefix_length=2048, concurrency_threshold=8),
        capacity_reservation_arn="arn:aws:sagemaker:eu-west-1:123456789012:training-plan/mine",
        enable_ssm_access=True,
        core_dump=CoreDump(where.s3_url_for_object("cores/"), where.encryption_key),
    )
    pools = Pools((Pool("ml.g5.12xlarge", 1), Pool("ml.g6e.12xlarge", 2, (container(where, "weights/b2/"),))), 2, 600)
    b = Variant(
        pools,
        (container(where),),
        name="b",
        weight=0,
        inference_ami_version="al2023-ami-sagemaker-inference-gpu-4-1",
        routing=Routing("least_outstanding_requests"),
    )
    endpoint = ModelEndpoint(
        stack,
        "Endpoint",
        variants=[a, b],
        endpoint_name="everything",
        network=Network.from_ids(("subnet-0123456789abcdef0",), ("sg-0123456789abcdef0",)),
        network_isolation=False,
        volume_key=where.encryption_key,
        data_capture=DataCapture(where, "captures/", 25, csv_content_types=("text/csv",)),
        metrics=Metrics(enhanced=True, publish_frequency_in_seconds=10),
        rollout=Rollout.linear("25%", wait=300, termination_wait=120, timeout=7200),
    )
    limits = [
        Limit.latency(max_ms=2000, percentile=99),
        Limit.overhead(max_ms=50),
        Limit.errors("5xx", max_share=0.01),
        Limit.utilization("gpu_memory", max_percent=95),
        Limit.utilization("disk", max_percent=90),
        Limit.cost(max_usd_per_hour=30, price_usd_per_hour=7.09),
    ]
    alarms = Alarms(stack, "Alarms", endpoint=endpoint, limits=limits[:3])
    Alarms(stack, "More", endpoint=endpoint, limits=limits[3:], notify=[_topic(stack)])
    endpoint.roll_back_on(*alarms.names)
    Dashboard(stack, "Dashboard", endpoint=endpoint, price_usd_per_hour=7.09, alarms=alarms)
    Scaling.of_variant(
        stack,
        "Scaling",
        endpoint=endpoint,
        minimum=2,
        maximum=8,
        tracking=Tracking(4),
        schedules=[Schedule("night", "cron(0 20 * * ? *)", minimum=2, maximum=4, timezone="Europe/Berlin")],
        predictive=Predictive(120, "forecast_and_scale"),
    )


def components(stack: Stack) -> None:
    """Inference components with an adapter, on instances that may all go."""
    where = bucket(stack)
    host = Variant(
        Instances("ml.g5.12xlarge", 1),
        managed_instances=ManagedInstances(0, 4, "consolidation", 2, 30),
        container_startup_health_check_timeout_in_seconds=900,
    )
    network = Network.from_ids(("subnet-0123456789abcdef0",), ("sg-0123456789abcdef0",))
    endpoint = ModelEndpoint(stack, "Endpoint", variants=[host], endpoint_name="components", network=network)
    component = InferenceComponent(
        stack,
        "Component",
        endpoint=endpoint,
        container=container(where),
        resources=Resources(16_384, accelerators=2, max_memory_in_mb=32_768, cpus=4),
        component_name="llama",
        cache=True,
        placement=Placement("binpack", max_imbalance=1),
        model_data_download_timeout_in_seconds=900,
        container_startup_health_check_timeout_in_seconds=900,
        rollout=Rollout.rolling(1, wait=60, rollback_size="50%", alarms=("mine",), timeout=3600),
    )
    component.add_adapter("French", data=ModelData.from_archive(where, "adapters/french.tar.gz"))
    Scaling.of_component(stack, "Scaling", component=component, minimum=0, maximum=4, tracking=Tracking(4))


def asynchronous(stack: Stack) -> None:
    """Requests by S3, no instance while none waits."""
    where, topic = bucket(stack), _topic(stack)
    endpoint = ModelEndpoint(
        stack,
        "Endpoint",
        variants=[Variant(Instances("ml.g5.2xlarge", 2), (container(where),))],
        endpoint_name="asynchronous",
        asynchronous=Asynchronous(where, "async/", "failed/", 4, topic, topic, ("success", "error")),
        rollout=Rollout.canary(1, wait=60),
    )
    Scaling.of_variant(
        stack, "Scaling", endpoint=endpoint, minimum=0, maximum=3, tracking=Tracking(2, metric="backlog")
    )
    Alarms(stack, "Alarms", endpoint=endpoint, limits=[Limit.backlog(most=20), Limit.latency(max_ms=60_000)])
    Dashboard(stack, "Dashboard", endpoint=endpoint)


def serverless(stack: Stack) -> None:
    """No instances of one's own, and no name."""
    where = bucket(stack)
    archive = Container(IMAGE, ModelData.from_archive(where, "models/small.tar.gz"))
    ModelEndpoint(stack, "Endpoint", variants=[Variant(Serverless(4096, 20, 2), (archive,))])


def many(stack: Stack) -> None:
    """A multi-model endpoint, and a pipeline that is its shadow."""
    where = bucket(stack)
    multi = Container(IMAGE, ModelData.from_archives(where, "models/"), cache_models=False, image_access="vpc")
    first, second = Container(IMAGE, hostname="first"), Container(IMAGE, hostname="second")
    ModelEndpoint(
        stack,
        "Endpoint",
        variants=[Variant(Instances("ml.c6i.xlarge", 2), (multi,), name="live")],
        shadow=Variant(Instances("ml.c6i.xlarge", 1), (first, second), name="shadow", weight=0.5),
        endpoint_name="many",
        network_isolation=True,
        rollout=Rollout.rolling(1, wait=30, rollback_size="100%", timeout=3600),
    )


CASES: dict[str, Callable[[Stack], None]] = {
    each.__name__: each for each in (everything, components, asynchronous, serverless, many)
}


def synthesize(folder: Path, prepare: Callable[[App], None] = lambda _: None) -> Synthesized:
    """A stack for each case."""
    app = App(outdir=str(folder), context=FLAGS)
    prepare(app)
    for name, case in CASES.items():
        case(Stack(app, name))
    app.synth()
    return Synthesized(folder)


def _topic(stack: Stack) -> sns.Topic:
    return sns.Topic(stack, "Topic", master_key=kms.Key(stack, "TopicKey", enable_key_rotation=True), enforce_ssl=True)
