"""Lines of a model file, and the faults that are found in them. Not a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift.spec import ModelSpec

MINIMAL = "name: x\nmodel: {path: m}\n"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf"
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


def faults(folder: Path, text: str) -> list[str]:
    file = folder / "x.yaml"
    file.write_text(MINIMAL + text + "\n")
    with pytest.raises(InputError) as caught:
        ModelSpec.from_yaml(file)
    return [fault.removeprefix(f"{file}:") for fault in caught.value.faults]


def read(folder: Path, text: str) -> ModelSpec:
    (folder / "x.yaml").write_text(MINIMAL + text + "\n")
    return ModelSpec.from_yaml(folder / "x.yaml")
