"""The order of a deployment: foundation, weights, serving stack, gate; and what came of it.

Not the steps themselves: each is a function of another module. Works the same against AWS and the embedded AWS;
which of the two is decided by the process's environment before this is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import boto3

from heavylift.deploy import capacity, cdk, quota, reports, stacks
from heavylift.deploy.console import Console
from heavylift.deploy.events import Transcript
from heavylift.deploy.prepare import Prepared
from heavylift.deploy.state import endpoint
from heavylift.deploy.variants import config_plans
from heavylift.errors import DeployError, Inconclusive, SloMissed
from heavylift.local.embedded import ACCOUNT
from heavylift.local.environment import REGION
from heavylift.project import Project
from heavylift.weights.push import push, push_config


@dataclass(frozen=True)
class Outcome:
    """A finished deployment: the stack's status, and the gate's newest report for this plan, if it has a gate."""

    status: str
    run: reports.Run | None
    folder: Path | None
    measured_now: bool


@dataclass(frozen=True)
class Deployment:
    """One model's deployment to the AWS that the environment names."""

    project: Project
    prepared: Prepared
    console: Console
    local: bool = False

    def bootstrap(self) -> None:
        """`cdk bootstrap` the embedded AWS, once, after `synth`; an account of the user's is his to bootstrap."""
        if stacks.describe(boto3.client("cloudformation"), stacks.TOOLKIT) is None:
            with self._transcript(stacks.TOOLKIT) as lines:
                code = cdk.bootstrap(self.project, f"aws://{ACCOUNT}/{REGION}", line=lines)
            self._check(code, "cdk bootstrap", stacks.TOOLKIT)

    def synth(self, output: Path | None = None) -> None:
        """Run app.py for this model file, into `output`: the project's assembly where None."""
        made = self.prepared
        code = cdk.synth(
            self.project, made.file, made.env, output=output, here=self.local, line=self.console.detail
        )  # fmt: skip
        self._check(code, "cdk synth", None)

    def check_quotas(self) -> None:
        """DeployError where the account may not run so many instances; the embedded AWS has no quotas."""
        if not self.local:
            clients = boto3.client("service-quotas"), boto3.client("sagemaker")
            region, plan = clients[1].meta.region_name, self.prepared.plan
            jobs: dict[str, str] = {} if plan.job is None else {plan.job.service: plan.job.instance_type}
            for line in quota.check(*clients, plan.name, self.prepared.instances, region, jobs):
                self.console.detail(line)

    def foundation(self) -> stacks.Stack:
        """Deploy what outlives the model; gives the stack with its outputs."""
        with self._transcript(stacks.FOUNDATION) as lines:
            code = cdk.deploy(self.project, f"{stacks.FOUNDATION}*", line=lines)  # its id names account and region
        self._check(code, "the foundation", stacks.FOUNDATION)
        return self.found_foundation()

    def found_foundation(self) -> stacks.Stack:
        """The foundation as it stands. Raises DeployError when there is none."""
        found = stacks.describe(boto3.client("cloudformation"), stacks.FOUNDATION)
        if found is None:
            raise DeployError(f"there is no stack {stacks.FOUNDATION}; `heavylift deploy FILE` makes it")
        return found

    def push(self, bucket: str) -> None:
        """Copy weights and rendered options to their immutable prefixes; what is there already is not sent again."""
        s3, made = boto3.client("s3"), self.prepared
        if made.archives:
            self.console.detail("a multi-model endpoint reads the archives that you put below 'multi_model.prefix'")
            return
        pushes = []
        if made.staged and not self.local:  # the embedded AWS has no CodeBuild
            self.console.detail(f"{made.lock.model.source}: the serving stack's staging job brings the weights")
        else:
            progress = self.console.progress("weights")
            pushes.append(push(made.plan, made.lock, made.weights, bucket, s3, progress))
        plans = config_plans(made.plan, made.others).values()
        for pushed in (*pushes, *(push_config(plan, made.file.parent, bucket, s3) for plan in plans)):
            self.console.detail(f"{pushed.uri}: {pushed.sent:,} bytes sent, {pushed.already:,} were there")

    def serve(self, reports_bucket: str, retries: int = 0) -> Outcome:
        """Deploy the serving stack and fetch what its gate reported, tried again at most `retries` times while AWS has
        no capacity. Raises SloMissed or DeployError on a roll-back."""
        return capacity.retried(lambda: self._serve(reports_bucket), retries, self.console.say)

    def _serve(self, reports_bucket: str) -> Outcome:
        plan, s3 = self.prepared.plan, boto3.client("s3")
        before = frozenset(reports.prefixes(s3, reports_bucket, plan.name))
        name = stacks.serving(plan.name)
        with self._transcript(name) as lines:
            code = cdk.deploy(self.project, name, line=lines)
        run, folder, new = None, None, None
        if plan.gate_digest is not None:
            new = reports.newest(s3, reports_bucket, plan.name, gate_digest=plan.gate_digest, than=before)
            run = new or reports.newest(s3, reports_bucket, plan.name, gate_digest=plan.gate_digest)
        if run is not None:
            folder = reports.fetch(s3, reports_bucket, run, self.project.home / "reports" / plan.name)
        stack = stacks.describe(boto3.client("cloudformation"), name)
        outcome = Outcome("deleted" if stack is None else stack.status, run, folder, new is not None)
        if code != 0:
            self._explain(name, outcome)
        self._check_serving()
        if run is not None and plan.gate.on_fail == "hold":
            self._held(run, outcome)
        return outcome

    def _check_serving(self) -> None:
        """CloudFormation compares templates: a stack without changes may have lost its endpoint since."""
        found = endpoint(boto3.client("sagemaker"), self.prepared.plan.name)
        stack = stacks.describe(boto3.client("cloudformation"), stacks.serving(self.prepared.plan.name))
        wanted = None if stack is None else stack.outputs.get("EndpointConfigName")
        live = found["endpoint_config"]
        if found["status"] != "InService" or live != wanted:
            serves = "" if live in (None, wanted) else f" and serves {live} in place of {wanted}"
            raise DeployError(
                f"the stack is complete, but the endpoint {found['name']} is {found['status']}{serves}: it was changed "
                "or deleted outside of its stack; run `heavylift destroy` with the same file, then deploy again"
            )

    def abandon(self) -> None:
        """Take back the operation that an interrupt left in CloudFormation, and wait until the stack is still."""
        cloudformation, name = boto3.client("cloudformation"), stacks.serving(self.prepared.plan.name)
        stack = stacks.describe(cloudformation, name)
        if stack is None or not stack.status.endswith("_IN_PROGRESS"):
            return
        self.console.say(f"interrupted: taking back {name} ({stack.status})")
        if stack.status == "UPDATE_IN_PROGRESS":
            cloudformation.cancel_update_stack(StackName=name)
        elif stack.status == "CREATE_IN_PROGRESS":
            cloudformation.delete_stack(StackName=name)
        left = stacks.settled(cloudformation, name)
        self.console.say(f"{name} is {'gone' if left is None else left.status}")

    def destroy(self) -> None:
        """Remove the serving stack, and before it the one that measures its endpoint, where that stands."""
        name = stacks.serving(self.prepared.plan.name)
        self._destroy_benchmark(stacks.benchmark(self.prepared.plan.name))
        if stacks.describe(boto3.client("cloudformation"), name) is None:
            self.console.detail(f"there is no stack {name}")
            return
        with self._transcript(name) as lines:
            code = cdk.destroy(self.project, name, line=lines)
        self._check(code, f"destroying {name}", name)

    def _destroy_benchmark(self, name: str) -> None:
        """By CloudFormation itself: an assembly holds that stack only where it was asked for by `--context`."""
        cloudformation = boto3.client("cloudformation")
        if stacks.describe(cloudformation, name) is None:
            return
        cloudformation.delete_stack(StackName=name)
        left = stacks.settled(cloudformation, name)
        if left is not None:
            reasons = stacks.failures(cloudformation, name)
            raise DeployError("\n".join([f"{name} was not removed ({left.status})", *reasons]))
        self.console.detail(f"{name} is gone")

    def _transcript(self, stack: str) -> Transcript:
        return Transcript(self._log(stack), self.console.detail)

    def _log(self, stack: str) -> Path:
        return self.project.home / "logs" / f"{stack}.log"

    def _explain(self, name: str, outcome: Outcome) -> None:
        reasons = stacks.failures(boto3.client("cloudformation"), name)
        told = "\n".join(f"  {reason}" for reason in reasons) or f"  {self._log(name)} says why"
        if (mend := stacks.way_out(outcome.status, name)) is not None:
            told += f"\n{mend}"
        verdict = outcome.run.report["verdict"] if outcome.measured_now and outcome.run is not None else None
        if verdict == "FAIL":
            raise Missed(f"the SLO was missed, and {name} was rolled back ({outcome.status}):\n{told}", outcome)
        if verdict in ("VOID", "INCONCLUSIVE"):
            raise Unjudged(f"nothing was proven, and {name} was rolled back ({outcome.status}):\n{told}", outcome)
        type_ = self.prepared.plan.instance.type
        told += "".join(f"\n{line}" for line in capacity.explained(reasons, type_))
        kind = capacity.NoCapacity if capacity.lacks_capacity(reasons) else DeployError
        raise kind(f"{name} was not deployed ({outcome.status}):\n{told}")

    def _held(self, run: reports.Run, outcome: Outcome) -> None:
        """A held deployment stays, and the command says by its exit code that somebody must decide."""
        verdict, name = run.report["verdict"], self.prepared.plan.name
        stays = f"{name} is held as it is: mend it, `heavylift destroy` it, or accept it with `on_fail: warn`"
        if verdict == "FAIL":
            raise Missed(f"the SLO was missed; {stays}", outcome)
        if verdict == "VOID" or (verdict == "INCONCLUSIVE" and self.prepared.plan.gate.on_inconclusive == "fail"):
            raise Unjudged(f"nothing was proven ({verdict}); {stays}", outcome)

    def _check(self, code: int, what: str, stack: str | None) -> None:
        if code == 0:
            return
        if stack is None:
            raise DeployError(f"{what} failed (exit code {code}); its lines are above")
        reasons = stacks.failures(boto3.client("cloudformation"), stack)
        raise DeployError("\n".join([f"{what} failed (exit code {code}); the log: {self._log(stack)}", *reasons]))


class Missed(SloMissed):
    """SloMissed, with the outcome that the command still shows."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)


class Unjudged(Inconclusive):
    """Inconclusive, with the outcome that the command still shows."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)
