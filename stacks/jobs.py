"""What a serving stack has made before its model: files brought from the hub, artifacts. Not how: heavylift_cdk."""

from __future__ import annotations

from collections.abc import Iterable

from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift_cdk import RuntimeImage
from stacks.foundation import FoundationStack


def staged(scope: Construct, spec: ModelSpec, plan: Plan, foundation: FoundationStack) -> Construct | None:
    """The model's files, brought from the hub by CodeBuild; None where the user pushes them."""
    if spec.staging.by != "job":
        return None
    assert spec.model.id is not None and spec.model.revision is not None, "the model file's rules say so"
    from aws_cdk import aws_secretsmanager as secretsmanager  # here and below: parts of the CDK that few models need

    from heavylift_cdk import Staged, Staging

    arn = spec.staging.token
    token = None if arn is None else secretsmanager.Secret.from_secret_complete_arn(scope, "HubToken", arn)
    staging = Staging(scope, "Staging", weights=foundation.store, log_group=foundation.log_group, token=token)
    return Staged(
        scope, "Staged", staging=staging, model=spec.model.id, revision=spec.model.revision, digest=plan.weights_digest
    )


def prepared(
    scope: Construct, plans: Iterable[Plan], foundation: FoundationStack, image: RuntimeImage, after: Construct
) -> list[Construct]:
    """The artifacts that the plans' jobs make, each once; a job starts when `after`, the model's files, is there.

    What starts them is made once for each service that they need.
    """
    jobs = {plan.job.key: (plan.job, plan.weights_digest) for plan in plans if plan.job is not None}
    if not jobs:
        return []
    from heavylift_cdk import Prepared, Preparing

    ids = {"processing": "Preparing", "training": "Training"}
    preparing = {
        service: Preparing(
            scope, ids[service], weights=foundation.store, log_group=foundation.log_group, service=service
        )
        for service in dict.fromkeys(job.service for job, _ in jobs.values())
    }
    made: list[Construct] = []
    for number, (job, source) in enumerate(jobs.values()):
        begin = preparing[job.service]
        one = Prepared(scope, f"Prepared{number or ''}", preparing=begin, job=job, source=source, image=image)
        one.node.add_dependency(after)
        made.append(one)
    return made
