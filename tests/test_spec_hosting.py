"""What a model file says of hosting: SageMaker's limits, and which fields go together. Scaling, roll-outs, alarms and
variants: test_spec_scaling.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosting_lines import EVERYTHING, KEY, SECRET, faults, read


def test_a_file_may_say_all_that_sagemaker_hosts(tmp_path: Path) -> None:
    spec = read(tmp_path, EVERYTHING)

    assert spec.rollout is not None and spec.rollout.strategy == "canary" and spec.rollout.canary_size == "25%"
    assert spec.scaling is not None and spec.scaling.schedules[0].timezone == "Europe/Berlin"
    assert spec.monitoring is not None
    assert [alarm.metric for alarm in spec.monitoring.alarms] == ["latency", "errors_5xx", "gpu_memory", "cost"]
    assert spec.shadow is not None and spec.shadow.serving is not None and spec.shadow.serving.batch_size == 8


@pytest.mark.parametrize(
    "lines",
    [
        "async_inference: {max_concurrent_invocations_per_instance: 4, include_response_in: [error], "
        "error_topic: arn:aws:sns:us-east-1:123456789012:topic}\n"
        "scaling: {min: 0, max: 2, metric: backlog, target: 5}\ninitial_instance_count: 1",
        "inference_components: [{name: a, copies: 2, accelerators: 1, adapters: [{name: fr, artifact: 's3://bkt/fr.tar.gz'}],"
        " scaling: {min: 0, max: 3}}]\ninstance_type: ml.g5.12xlarge\n"
        "managed_instances: {min: 0, max: 2, scale_in: {strategy: consolidation}}",
        "instance_pools: [{instance_type: ml.g5.12xlarge, priority: 1}, {instance_type: ml.g6.12xlarge, priority: 2}]\n"
        "variant_instance_provision_timeout_in_seconds: 600",
        "multi_model: {prefix: 's3://bucket/models/'}",
        "rollout: {strategy: rolling, batch_size: 1, wait_in_seconds: 60, rollback_batch_size: 100%}\n"
        "initial_instance_count: 4",
        "compile: {backend: neuron, batch_sizes: [4], sequence_lengths: [512], neuron_sdk: '2.26.1'}\n"
        "instance_type: ml.inf2.24xlarge",
        "environment: {MAX_NEW_TOKENS: '5', TOKENIZERS_PARALLELISM: 'false'}",
    ],
)
def test_what_belongs_together_is_taken(tmp_path: Path, lines: str) -> None:
    assert read(tmp_path, lines).name == "x"


POOLS = "instance_pools: [{instance_type: ml.g5.12xlarge, priority: 1}, {instance_type: "


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        # endpoint variants and instances
        (
            POOLS + "ml.g5.12xlarge, priority: 2}]",
            "3:80: a second instance_type 'ml.g5.12xlarge'; each pool has its own",
        ),
        (POOLS + "ml.g6.12xlarge, priority: 1}]", "3:106: a second priority 1; each pool has its own"),
        (POOLS + "ml.inf2.8xlarge, priority: 2}]", "3:80: the pools must be of one hardware"),
        (
            POOLS + "ml.g6.12xlarge, priority: 6}]",
            "3:106: 'instance_pools[1].priority' must be a whole number from 1 to 5",
        ),
        (POOLS + "ml.g6.12xlarg, priority: 2}]", "3:80: no facts about instance type 'ml.g6.12xlarg'; did you mean"),
        (POOLS + "ml.g6.12xlarge, priority: 2}]\nvolume_size_in_gb: 9", "4:1: 'volume_size_in_gb' must be left out"),
        ("instance_pools: []", "3:17: 'instance_pools' must be a non-empty list"),
        (
            "variant_instance_provision_timeout_in_seconds: 600",
            "3:1: 'variant_instance_provision_timeout_in_seconds' be",
        ),
        (
            POOLS + "ml.g6.12xlarge, priority: 2}]\ninstance_type: ml.g5.xlarge",
            "4:1: 'instance_type' cannot be combined with 'instance_pools'",
        ),
        (
            POOLS + "ml.g6.12xlarge, priority: 2}]\nvariant_instance_provision_timeout_in_seconds: 299",
            "4:48: 'variant_instance_provision_timeout_in_seconds' must be a whole number from 300 to 3600; got 299",
        ),
        (
            "capacity_reservation: {arn: x}\ninstance_type: ml.p5.48xlarge",
            "3:29: 'capacity_reservation.arn' must be an ARN",
        ),
        (
            "routing: {strategy: random, prefix_length: 2048}",
            "3:29: 'routing.prefix_length' belongs to 'strategy: prefix_aw",
        ),
        (
            "routing: {strategy: prefix_aware, prefix_length: 8}",
            "3:50: 'routing.prefix_length' must be a whole number from 1024",
        ),
        (
            "routing: {strategy: kv_aware}",
            "3:21: 'routing.strategy' kv_aware needs a container that tells of its cache",
        ),
        ("routing: {strategy: sticky}", "3:21: 'routing.strategy' must be 'least_outstanding_requests', 'random'"),
        ("network: {subnets: [], security_groups: [sg-01234567]}", "3:20: 'network.subnets' must be a non-empty list"),
        ("network: {subnets: [subnet-01234567]}", "3:1: 'network.security_groups' is missing: a non-empty list"),
        (
            "network: {subnets: [subnet], security_groups: [sg-01234567]}",
            "3:21: 'network.subnets[0]' must be a subnet's id",
        ),
        ("kms_key: alias/x", "3:10: 'kms_key' must be an ARN such as arn:aws:kms:us-east-1:"),
        (f"region: eu-west-1\nkms_key: {KEY}", "4:10: 'kms_key' is in us-east-1; the file's 'region' is eu-west-1"),
        (
            f"account: '210987654321'\nkms_key: {KEY}",
            "4:10: 'kms_key' is of account 123456789012; the file's 'account' is",
        ),
        ("account: 123456789012", "3:10: 'account' must be an AWS account: 12 digits, in quotes; got 123456789012"),
        (
            "inference_ami_version: al2-ami-sagemaker-inference-neuron-2\ninstance_type: ml.g5.xlarge",
            "3:24: 'inference_ami_version' al2-ami-sagemaker-inference-neuron-2 is for neuron; ml.g5.xlarge is gpu",
        ),
        (
            "inference_ami_version: al3",
            "3:24: 'inference_ami_version' must be 'auto' or 'al2-ami-sagemaker-inference-gpu-2'",
        ),
        # container
        ("secrets: {HF_TOKEN: hf_x}", "3:21: 'secrets.HF_TOKEN' must be an ARN such as arn:aws:secretsmanager"),
        (f"secrets: {{'A-B': '{SECRET}'}}", "3:11: 'A-B' is not an environment variable's name"),
        (
            f"secrets: {{A: '{SECRET}'}}\nenvironment: {{A: x}}",
            "3:11: 'A' is in 'environment', too; keep one of the two",
        ),
        (
            f"secrets: {{A: '{SECRET}'}}\nenable_network_isolation: true",
            "3:1: 'secrets' cannot be looked up under 'enable_network_isolation'",
        ),
        ("environment: {HF_TOKEN: hf_x}", "3:15: 'environment.HF_TOKEN' looks like a secret"),
        ("environment: {AWS_ACCESS_KEY_ID: x}", "3:15: 'environment.AWS_ACCESS_KEY_ID' looks like a secret"),
        ("image: {uri: repo/x:1}", "3:14: 'image.uri' must be an ECR image with its tag or digest"),
        (
            "image: {dlc: {framework: vllm, version: '0.30.0'}}\nengine: vllm\ninstance_type: ml.c6i.xlarge",
            "5:16: 'instance_type' of AWS's vllm container is one with gpu; ml.c6i.xlarge is cpu",
        ),
        (
            "image: {build: docker, dlc: {framework: lmi, version: '0.33.0'}}\nengine: vllm",
            "3:8: 'image' needs exactly one of 'uri', 'dlc' and",
        ),
        (
            "image: {dlc: {framework: lmi, version: '0.32.1'}}\nengine: vllm",
            "3:40: 'image.dlc.version': no lmi container of version '0.32.1'; there are 0.38.0, 0.36.0, 0.35.0, "
            "0.34.0, 0.33.0, 0.32.0, 0.31.0, 0.30.0, 0.29.0, 0.28.0; did you mean '0.32.0'?",
        ),
        (
            "image: {dlc: {framework: lmi, version: '0.32.0'}}\nengine: vllm\nregion: us-iso-east-1",
            "3:40: 'image.dlc.version': lmi 0.32.0 is not in 'us-iso-east-1'; it is in af-south-1, ",
        ),
        (
            "image: {dlc: {framework: lmi, version: '0.33.0'}}\nengine: native",
            "4:9: 'engine' with AWS's lmi container must be one of vllm, accelerate, script; got 'native'; leave out "
            "'image.dlc' for Heavylift's own image",
        ),
        (
            "image: {dlc: {framework: deepspeed, version: '0.27.0'}}",
            "3:26: 'engine' with AWS's deepspeed container must be one of deepspeed, vllm, accelerate, script; "
            "got 'auto'",
        ),
        (
            "image: {dlc: {framework: vllm, version: '0.30.0'}}\ncode: m",
            "4:1: 'code' is run by no vllm container of AWS's; leave out 'code', or 'image.dlc'",
        ),
        (
            "compile: {backend: neuron}\ninstance_type: ml.g5.xlarge",
            "3:20: 'compile.backend' neuron is for Inf2 and Trn",
        ),
        ("compile: {backend: torch, neuron_sdk: 2.26.1}", "3:27: 'compile.neuron_sdk' belongs to 'backend: neuron'"),
        (
            "compile: {backend: torch, batch_sizes: [0]}",
            "3:41: 'compile.batch_sizes[0]' must be a whole number from 1 to",
        ),
        (
            "partition: {instance_type: ml.m5.xlarge}",
            "3:13: 'partition.instance_type' belongs to 'when: ahead_of_time'",
        ),
        (f"staging: {{by: job, token: '{SECRET}'}}", "3:20: 'staging.token' is the hub's, and 'model' has no 'id'"),
        (
            "instance_pools: [{instance_type: ml.c6i.xlarge, priority: 1}]\n"
            "inference_ami_version: al2-ami-sagemaker-inference-neuron-2",
            "4:24: 'inference_ami_version' al2-ami-sagemaker-inference-neuron-2 is for neuron; ml.c6i.xlarge is cpu",
        ),
        (
            "instance_type: ml.inf2.xlarge\nvariants: [{name: a}, {name: b, instance_type: ml.g5.xlarge}]\n"
            "inference_ami_version: al2-ami-sagemaker-inference-neuron-2",
            "5:24: 'inference_ami_version' al2-ami-sagemaker-inference-neuron-2 is for neuron; ml.g5.xlarge is gpu",
        ),
        (
            "async_inference: {include_response_in: [error]}",
            "3:41: 'async_inference.include_response_in[0]' error needs 'async_inference.error_topic', which gets the",
        ),
        ("staging: {by: job}", "3:15: 'staging.by' job brings a model from the hub, and 'model' has no 'id'; use push"),
        (
            "image: {dlc: {framework: fastertransformer, version: '0.24.0'}}\npartition: {when: ahead_of_time}\n"
            "engine: fastertransformer",
            "4:1: 'partition' makes files for one model that only Heavylift's own image loads; leave out 'image.dlc' "
            "or 'partition'",
        ),
        (
            "partition: {when: ahead_of_time}\nengine: vllm",
            "3:19: 'partition' ahead of time is for native and fastertransformer; got engine: 'vllm'",
        ),
        (
            "compile: {backend: neuron}\nenable_network_isolation: true",
            "3:1: 'compile' cannot be combined with 'enable_network_isolation': what was compiled comes from S3",
        ),
        (
            "engine: accelerate\ncompile: {backend: torch}",
            "4:20: 'compile.backend' torch is engine vllm's; got engine: 'accelerate'",
        ),
        (
            "partition: {when: ahead_of_time}\ncompile: {backend: neuron}",
            "3:19: 'partition' and 'compile' for Neuron exclude each other: what is compiled is split as it loads",
        ),
        (
            "prompt: {chat_template: ../x.jinja}",
            "3:25: 'prompt.chat_template' must be a file beside this one, or below",
        ),
        ("prompt: {few_shot: [{input: a}]}", "3:21: 'prompt.few_shot[0].output' is missing: text"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_here(tmp_path: Path, lines: str, fault: str) -> None:
    found = faults(tmp_path, lines)

    assert any(fault in each for each in found) and len(found) <= 2, found
