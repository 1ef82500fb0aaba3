"""Model files that say everything of hosting, and the tests' plans of them. Not a test; constructs: hosting.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heavylift.deploy.variants import Other
from heavylift.deploy.variants import spec_of as variant_spec
from heavylift.plan.parts import Price, Variant
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from tests.cdk import plan
from tests.plans import on_accelerators

BASE = "model: {path: weights}\n"
KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf"
TOPIC = "arn:aws:sns:us-east-1:123456789012:topic"

FULL = f"""
instance_type: ml.c6i.xlarge
initial_instance_count: 4
inference_ami_version: auto
capacity_reservation: {{arn: "arn:aws:sagemaker:us-east-1:123456789012:training-plan/mine"}}
enable_ssm_access: true
routing: {{strategy: prefix_aware, prefix_length: 4096, concurrency_threshold: 16}}
network: {{subnets: [subnet-0123456789abcdef0], security_groups: [sg-0123456789abcdef0]}}
kms_key: {KEY}
scaling:
  min: 2
  max: 8
  schedules: [{{name: night, when: "cron(0 20 * * ? *)", min: 2, max: 4}}]
rollout: {{strategy: canary, canary_size: 25%, wait_in_seconds: 300, max_execution_timeout_in_seconds: 3600}}
monitoring:
  dashboard: true
  notify: [{TOPIC}]
  metrics: {{enhanced: true, publish_frequency_in_seconds: 30}}
  data_capture: {{sampling_percentage: 10}}
  alarms:
    - {{metric: latency, percentile: 99, max_ms: 2000}}
    - {{metric: errors_5xx, max: 0.01, for_minutes: 5, no_data: keep}}
    - {{metric: cost, max_usd_per_hour: 1.5}}
"""
COMPONENTS = """
instance_type: ml.g5.12xlarge
managed_instances: {min: 0, max: 3, scale_in: {strategy: idle_release}}
scaling: {min: 0, max: 4}
inference_components:
  - name: english
    accelerators: 2
    adapters: [{name: french, artifact: s3://adapters/french.tar.gz}]
  - {name: small, accelerators: 1, copies: 2, min_memory_in_mb: 4096, scaling: {min: 1, max: 2}}
"""
QUEUED = f"""
instance_type: ml.c6i.xlarge
scaling: {{min: 0, max: 2}}
async_inference:
  output: s3://results/model/
  kms_key: {KEY}
  success_topic: {TOPIC}
  include_response_in: [success]
"""
SHADOWED = """
instance_type: ml.c6i.xlarge
initial_instance_count: 2
shadow: {name: candidate, weight: 0.5, instance_type: ml.g5.xlarge, initial_instance_count: 1, environment: {A: b}}
rollout: {strategy: rolling, batch_size: 1, wait_in_seconds: 60}
"""
POOLED = """
instance_pools: [{instance_type: ml.c6i.xlarge, priority: 1}, {instance_type: ml.m5.xlarge, priority: 2}]
variant_instance_provision_timeout_in_seconds: 900
initial_instance_count: 2
"""
SPLIT = """
instance_type: ml.c6i.xlarge
variants:
  - {name: live, weight: 9}
  - {name: next, weight: 1, initial_instance_count: 3, options: {max_new_tokens: 8}, environment: {A: b}}
scaling: {min: 1, max: 4, metric: invocations, target: 100}
"""
CONFIDED = f"""
instance_type: ml.c6i.xlarge
secrets: {{HF_TOKEN: "{SECRET}"}}
environment: {{LOG_LEVEL: info}}
"""
MANY = """
instance_type: ml.c6i.xlarge
multi_model: {prefix: s3://archives/models/, cache: false}
"""
FILES = {
    "full": FULL, "components": COMPONENTS, "queued": QUEUED, "shadowed": SHADOWED, "pooled": POOLED, "split": SPLIT,
    "confided": CONFIDED, "many": MANY,
}  # fmt: skip


def spec_of(folder: Path, name: str, text: str) -> ModelSpec:
    (folder / f"{name}.yaml").write_text(f"name: {name}\n{BASE}{text}")
    return ModelSpec.from_yaml(folder / f"{name}.yaml")


def others(spec: ModelSpec) -> dict[str, Other]:
    """The spec's variants and shadow, each with such a plan."""
    given = (*(spec.variants or ()), *(() if spec.shadow is None else (spec.shadow,)))
    return {each.name: Other(own := variant_spec(spec, each), planned(own)) for each in given}


def planned(spec: ModelSpec) -> Plan:
    """The tests' plan on the spec's instances, without a gate."""
    made = plan(name=spec.name, benchmark=None, gate_digest=None)
    if spec.instance_type.startswith("ml.g5."):
        made = on_accelerators(made)
        made = replace(made, instance=replace(made.instance, type=spec.instance_type))
    if spec.instance_type == "ml.g5.xlarge":
        made = replace(made, variant=Variant(60, 120, None, "al2023-ami-sagemaker-inference-gpu-4-1"))
    if spec.options:
        made = replace(made, config_digest="e5" * 32)
    made = replace(made, environment=spec.environment)
    price = Price(0.2, "us-east-1", "published", "2026-11-20", "https://example.com")
    return replace(made, instance=replace(made.instance, count=spec.initial_instance_count, price=price))
