"""What a model file says of hosting: SageMaker's limits, and which fields go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec

MINIMAL = "name: x\nmodel: {path: m}\n"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf"


def faults(folder: Path, text: str) -> list[str]:
    file = folder / "x.yaml"
    file.write_text(MINIMAL + text + "\n")
    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(file)
    return [fault.removeprefix(f"{file}:") for fault in caught.value.faults]


def read(folder: Path, text: str) -> ModelSpec:
    (folder / "x.yaml").write_text(MINIMAL + text + "\n")
    return ModelSpec.from_yaml(folder / "x.yaml")


EVERYTHING = f"""
account: '123456789012'
region: us-east-1
staging: {{by: push}}
prompt: {{chat_template: chat.jinja, template: text.jinja, few_shot: [{{input: 1 + 1, output: '2'}}]}}
partition: {{when: ahead_of_time, instance_type: auto}}
compile: {{backend: torch, cuda_graphs: true, batch_sizes: [1, 4]}}
image: {{build: codebuild}}
secrets: {{HF_TOKEN: '{SECRET}'}}
instance_type: ml.g5.12xlarge
initial_instance_count: 2
inference_ami_version: al2-ami-sagemaker-inference-gpu-3-1
capacity_reservation: {{arn: 'arn:aws:sagemaker:us-east-1:123456789012:training-plan/p'}}
enable_ssm_access: true
routing: {{strategy: prefix_aware, prefix_length: 2048, concurrency_threshold: 16}}
network: {{subnets: [subnet-0123456789abcdef0], security_groups: [sg-0123456789abcdef0], image_access: vpc}}
kms_key: {KEY}
scaling:
  min: 2
  max: 8
  metric: concurrency
  target: 4
  schedules: [{{name: night, when: 'cron(0 20 * * ? *)', timezone: Europe/Berlin, min: 1, max: 2}}]
  predictive: {{mode: forecast_only, target: 100}}
rollout: {{strategy: canary, canary_size: 25%, wait_in_seconds: 300, alarms: [mine]}}
monitoring:
  alarms:
    - {{metric: latency, percentile: 99, max_ms: 2000}}
    - {{metric: errors_5xx, max: 0.01}}
    - {{metric: gpu_memory, max_percent: 95, no_data: alarm}}
    - {{metric: cost, max_usd_per_hour: 20}}
  notify: ['arn:aws:sns:us-east-1:123456789012:alarms']
  dashboard: true
  metrics: {{enhanced: true, publish_frequency_in_seconds: 10}}
  data_capture: {{sampling_percentage: 5, capture: [input]}}
variants: [{{name: a, weight: 9}}]
shadow: {{name: b, weight: 0.1, serving: {{batch_size: 8}}, instance_type: ml.g6.12xlarge}}
"""


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
        "async_inference: {max_concurrent_invocations_per_instance: 4, include_response_in: [error]}\n"
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


ALARM = "monitoring: {alarms: [{metric: "
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
            "image: {build: docker, dlc: {framework: lmi, version: '1.0'}}",
            "3:8: 'image' needs exactly one of 'uri', 'dlc' and",
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
        ("staging: {by: job}", "3:15: 'staging.by' job brings a model from the hub, and 'model' has no 'id'; use push"),
        (
            "image: {dlc: {framework: lmi, version: '0.33.0'}}\npartition: {when: ahead_of_time}",
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
        # scaling
        (
            "scaling: {min: 3, max: 2}\ninitial_instance_count: 2",
            "3:16: 'scaling.min' must be at most 'max' (2); got 3",
        ),
        ("scaling: {min: 0, max: 2}", "3:16: 'scaling.min' must be at least 1: an endpoint scales to zero only with"),
        (
            "scaling: {min: 2, max: 4}",
            "3:10: 'initial_instance_count' must be from 'scaling.min' to 'scaling.max'; got 1",
        ),
        (
            "scaling: {min: 1, max: 2, metric: backlog}",
            "3:35: 'scaling.metric' backlog is counted for 'async_inference' only",
        ),
        ("scaling: {min: 1, max: 2, metric: invocations}", "3:10: 'scaling.target' must be given for invocations"),
        (
            "scaling: {min: 1, max: 2, metric: cpu}",
            "3:35: 'scaling.metric' must be 'auto' or 'concurrency', 'invocations' or",
        ),
        (
            "async_inference: {}\nscaling: {min: 0, max: 1, metric: concurrency}\ninitial_instance_count: 1",
            "4:35: 'scaling.metric' concurrency is not published for 'async_inference'; use backlog",
        ),
        (
            "scaling: {min: 1, max: 2, schedules: [{name: a, when: 'cron(0 1 * * ? *)'}]}",
            "3:39: 'scaling.schedules[0]' needs 'min' or 'max', or both",
        ),
        (
            "scaling: {min: 1, max: 2, schedules: [{name: a, when: nightly, min: 1}]}",
            "3:55: 'scaling.schedules[0].when' must be cron(minutes hours day month weekday year)",
        ),
        ("scaling: {min: 1, max: 2}\ninstance_type: ml.t2.medium", "no facts about instance type 'ml.t2.medium'"),
        ("managed_instances: {min: 0, max: 2}", "3:1: 'managed_instances' belongs to 'inference_components'"),
        # roll-out and alarms
        (
            "rollout: {strategy: canary, canary_size: 50%, wait_in_seconds: 1}",
            "3:21: 'rollout.strategy' canary needs two",
        ),
        (
            "initial_instance_count: 2\nrollout: {strategy: canary, canary_size: 60%, wait_in_seconds: 1}",
            "4:42: 'rollout.canary_size' must be 1 to 50 percent of the instances; got '60%'",
        ),
        (
            "initial_instance_count: 4\nrollout: {strategy: linear, step_size: 3, wait_in_seconds: 1}",
            "4:40: 'rollout.step_size' must be 10 to 50 percent of the instances; got 3, 75% of 4",
        ),
        (
            "initial_instance_count: 50\nrollout: {strategy: rolling, batch_size: 1, wait_in_seconds: 1}",
            "4:42: 'rollout.batch_size' must be 5 to 50 percent of the instances; got 1, 2% of 50",
        ),
        (
            "initial_instance_count: 2\n"
            "rollout: {strategy: linear, step_size: 10%, wait_in_seconds: 300, max_execution_timeout_in_seconds: 3000}",
            "4:101: 'rollout.max_execution_timeout_in_seconds' must be more than all waits together, 3000 seconds",
        ),
        (
            "rollout: {strategy: all_at_once, canary_size: 10%}",
            "3:34: unknown key 'canary_size'; allowed here: auto_rollback",
        ),
        (
            "rollout: {strategy: blue_green}",
            "3:21: 'rollout.strategy' must be 'all_at_once', 'canary', 'linear' or 'rolling'",
        ),
        (
            "rollout: {canary_size: 10%}",
            "3:10: 'rollout.strategy' is missing: 'all_at_once', 'canary', 'linear' or 'rolling'",
        ),
        (
            "rollout: {strategy: all_at_once, wait_in_seconds: 3601}",
            "3:51: 'rollout.wait_in_seconds' must be a whole number",
        ),
        (ALARM + "backlog, max: 1}]}", "3:32: 'backlog' is published for 'async_inference' only"),
        (
            "async_inference: {}\n" + ALARM + "errors_5xx, max: 0.1}]}",
            "4:32: 'errors_5xx' is not published for 'async_inf",
        ),
        (
            "instance_type: ml.inf2.xlarge\n" + ALARM + "gpu, max_percent: 9}]}",
            "4:32: 'gpu' is published for GPUs only",
        ),
        (ALARM + "latency, max: 1}]}", "'monitoring.alarms[0].max_ms' is missing: a number above 0"),
        (
            "monitoring: {metrics: {publish_frequency_in_seconds: 15}}",
            "3:54: 'monitoring.metrics.publish_frequency_in_seconds'",
        ),
        (
            "monitoring: {data_capture: {sampling_percentage: 101}}",
            "3:50: 'monitoring.data_capture.sampling_percentage' must",
        ),
        # variants and components
        ("variants: [{name: a}, {name: A}]", "3:30: a second 'A'; give each a name of its own"),
        ("variants: [{name: a, weight: 0}]", "3:11: every weight in 'variants' is 0: no variant would get a request"),
        ("variants: [{name: -a}]", "3:19: 'variants[0].name' must be letters, digits and inner hyphens"),
        (
            "variants: [{name: a}, {name: b}]\nshadow: {name: c}",
            "4:1: 'shadow' needs exactly one production variant; got 2",
        ),
        (
            "variants: [{name: a, instance_type: ml.g5.xlarge, volume_size_in_gb: 64}]",
            "3:51: 'variants[0].volume_size_in_gb' must be left out: ml.g5.xlarge has NVMe storage",
        ),
        (
            f"secrets: {{A: '{SECRET}'}}\nimage: {{dlc: {{framework: lmi, version: '0.33.0'}}}}",
            "3:1: 'secrets' are looked up by Heavylift's own image",
        ),
        (
            "inference_components: [{name: a}, {name: b}]\n"
            "benchmark: {workload: four-tasks, slo: [{metric: error_rate, max: 0}]}",
            "4:12: 'benchmark.inference_component' is missing: say which of a, b is measured",
        ),
        (
            "benchmark: {workload: four-tasks, inference_component: c, slo: [{metric: error_rate, max: 0}]}",
            "3:56: 'benchmark.inference_component' must be left out",
        ),
        (
            "multi_model: {prefix: 's3://bucket/m/'}\n"
            "benchmark: {workload: four-tasks, slo: [{metric: error_rate, max: 0}]}",
            "4:12: 'benchmark.target_model' is missing",
        ),
        (
            "benchmark: {workload: four-tasks, target_model: a.tar.gz, slo: [{metric: error_rate, max: 0}]}",
            "3:35: 'benchmark.target_model' belongs to 'multi_model'",
        ),
        ("environment: {A_SECRET_ARN: x}", "3:15: 'environment.A_SECRET_ARN' is looked up by the container"),
        ("variants: [{name: a, options: {dtype: fp32}}]", "3:32: 'variants[0].options.dtype' is set by 'dtype'"),
        ("shadow: {name: a, options: {max_new_tokns: 4}}", "3:29: 'max_new_tokns' is no option of"),
        ("variants: [{name: a, instance_type: ml.g5.x}]", "3:37: no facts about instance type 'ml.g5.x'"),
        (
            "multi_model: {prefix: 's3://bucket/m/'}\nvariants: [{name: a}]",
            "4:1: 'variants' cannot be combined with 'multi_m",
        ),
        ("gate: {strategy: staging}", "3:18: 'gate.strategy' staging needs a 'benchmark' to run there"),
        (
            "inference_components: [{name: a, copies: 9, accelerators: 1}]\ninstance_type: ml.g5.12xlarge",
            "3:1: the copies need 9 accelerators; there are 1 · 4 of ml.g5.12xlarge",
        ),
        (
            "inference_components: [{name: a}]\ninstance_type: ml.g5.12xlarge",
            "3:24: 'inference_components[0].accelerators' is missing: ml.g5.12xlarge has 4 to give",
        ),
        (
            "inference_components: [{name: a, copies: 0}]",
            "3:42: 'inference_components[0].copies' must be a whole number from 1",
        ),
        (
            "inference_components: [{name: a, min_memory_in_mb: 512, max_memory_in_mb: 256}]",
            "3:52: 'inference_components[0].min_memory_in_mb' must be at most 'max_memory_in_mb' (256); got 512",
        ),
        (
            "inference_components: [{name: a, adapters: [{name: f, artifact: 's3://b/x'}]}]",
            "3:65: 'inference_components[0].adapters[0].artifact' must be s3://bucket/key.tar.gz",
        ),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_here(tmp_path: Path, lines: str, fault: str) -> None:
    found = faults(tmp_path, lines)

    assert any(fault in each for each in found) and len(found) <= 2, found
