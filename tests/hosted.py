"""tiny-t5 hosted as a model file says, with its gate, in the embedded AWS: by boto3, without the CDK CLI. Not a test.

The endpoint is our runtime, the gate the function that the stack really has.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.deploy.stacks import FOUNDATION
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights.inspect import inspect
from heavylift.weights.push import push, push_config
from heavylift.weights.store import Folder
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack
from tests.cdk import FLAGS, IMAGE, ROOT, App, Synthesized
from tests.embedded import Deployed, Embedded

TARGETS = """
benchmark:
  workload: four-tasks
  requests: 40
  warmup_requests: 4
  load: {load}
  slo:
    - {{metric: e2e_latency, percentile: 90, max_ms: {max_ms}}}
    - {{metric: error_rate, max: 0.0}}
    - {{metric: quality, min: 0.95}}
"""


@dataclass
class Hosted:
    """A model by its name, deployed again and again; what is there then."""

    aws: Embedded
    folder: Path
    name: str
    how: str = ""
    load: str = "{mode: closed, concurrency: 1}"

    def up(self, *, max_ms: float = 60_000, delay: int = 10) -> Deployed:
        """Foundation, weights, serving stack: as `heavylift deploy` does it. Another `delay` is another model."""
        (home := self.folder / f"{max_ms:g}-{delay}").mkdir(parents=True)
        shutil.copytree(ROOT / "models" / "tiny-t5", home / "tiny-t5")
        text = (ROOT / "models" / "tiny-t5.yaml").read_text().partition("benchmark:")[0]
        text = text.replace("name: tiny-t5", f"name: {self.name}")
        text = text.replace("batch_size: 4", f"batch_size: 4\n  max_batch_delay: {delay}")
        text = text.replace("degree: 2", "degree: 1")
        (home / f"{self.name}.yaml").write_text(text + self.how + TARGETS.format(max_ms=max_ms, load=self.load))
        spec = ModelSpec.from_yaml(home / f"{self.name}.yaml")
        lock = inspect(spec, home)
        plan = Plan.fit(spec, lock)
        made = self._synthesized(home / "assembly", plan, spec)
        if not self.aws.client("s3").list_buckets()["Buckets"]:  # the foundation is the same whatever the model is
            self.aws.deploy(FOUNDATION, made.json(FOUNDATION), made.folder)
        bucket, s3 = self.output("WeightsBucketName"), self.aws.client("s3")
        push(plan, lock, Folder(home / "tiny-t5"), bucket, s3)
        push_config(plan, home, bucket, s3)
        return self.aws.deploy(self.stack, patient(made.json(self.stack)), made.folder)

    @property
    def stack(self) -> str:
        return f"heavylift-{self.name}"

    def output(self, key: str) -> str:
        """Of the foundation."""
        (stack,) = self.aws.client("cloudformation").describe_stacks(StackName=FOUNDATION)["Stacks"]
        return next(str(row["OutputValue"]) for row in stack["Outputs"] if row["OutputKey"] == key)

    def reports(self) -> list[dict[str, Any]]:
        """Oldest first."""
        s3, bucket = self.aws.client("s3"), self.output("ReportsBucketName")
        found = s3.list_objects_v2(Bucket=bucket, Prefix=f"reports/{self.name}/").get("Contents", [])
        keys = sorted(row["Key"] for row in found if row["Key"].endswith("/report.json"))
        return [json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]

    def down(self) -> Deployed:
        return self.aws.destroy(self.stack)

    def _synthesized(self, folder: Path, plan: Plan, spec: ModelSpec) -> Synthesized:
        app = App(outdir=str(folder), context=FLAGS)
        foundation = FoundationStack(app, FOUNDATION)
        file = f"models/{self.name}.yaml"
        ServingStack(app, self.stack, plan=plan, model_file=file, foundation=foundation, image=IMAGE, spec=spec)
        app.synth()
        return Synthesized(folder)


def patient(template: dict[str, Any]) -> dict[str, Any]:
    """A generator on a busy machine lags, and lag makes a run void: that is tested with clocks that are scripted."""
    for resource in template["Resources"].values():
        if resource["Type"] == "Custom::HeavyliftBenchmarkGate":
            asked = json.loads(resource["Properties"]["Benchmark"])
            resource["Properties"]["Benchmark"] = json.dumps({**asked, "max_lag_ms": 60_000})
    return template
