"""What a model file says of scaling, roll-outs, alarms, variants and components: what SageMaker would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosting_lines import SECRET, faults

ALARM = "monitoring: {alarms: [{metric: "


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
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
        (
            "async_inference: {}\nscaling: {min: 1, max: 2, schedules: [{name: a, when: rate(1 day), min: 3}]}",
            "4:73: 'scaling.schedules[0].min' must be at most 'max', which is never more than 2; got 3; say 'max', too",
        ),
        (
            "initial_instance_count: 2\nscaling: {min: 2, max: 3, schedules: [{name: a, when: rate(1 day), max: 1}]}",
            "4:73: 'scaling.schedules[0].max' must be at least 'min', which is never less than 2; got 1; say 'min'",
        ),
        (
            "inference_components: [{name: a}]\nscaling: {min: 0, max: 2}",
            "3:1: 'managed_instances' is missing: where all copies are gone, their instances would stay and cost; say",
        ),
        (
            "inference_components: [{name: a, scaling: {min: 1, max: 2, schedules: "
            "[{name: a, when: rate(1 day), min: 0}]}}]",
            "3:1: 'managed_instances' is missing: where all copies are gone",
        ),
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
            f"secrets: {{A: '{SECRET}'}}\nimage: {{dlc: {{framework: lmi, version: '0.33.0'}}}}\nengine: vllm",
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
            "inference_components: [{name: a, accelerators: 1}]\n"
            "instance_pools: [{instance_type: ml.m5.xlarge, priority: 1}]",
            "3:34: ml.m5.xlarge has no accelerators; leave them out",
        ),
        (
            "inference_components: [{name: a, accelerators: 5}]\ninstance_type: ml.g5.12xlarge\n"
            "managed_instances: {min: 1, max: 2}",
            "3:48: 'inference_components[0].accelerators' must be at most ml.g5.12xlarge's 4; got 5",
        ),
        (
            "inference_components: [{name: a, cpus: 4.5}]\ninstance_type: ml.c6i.xlarge",
            "3:40: 'inference_components[0].cpus' must be at most ml.c6i.xlarge's 4; got 4.5",
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
