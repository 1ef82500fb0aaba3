"""Access: the rights of an execution role that one construct asks for, as one policy, before what needs them.

Not the role: that may be another stack's, whose template must not change with the models.
"""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from heavylift_cdk.checks import acknowledge_statement


class Access:
    """Collects statements for `role`; the policy is made with the first."""

    def __init__(self, scope: Construct, role: iam.IRole) -> None:
        self._scope, self._role = scope, role
        self._policy: iam.Policy | None = None

    def add(self, statements: Iterable[iam.PolicyStatement]) -> None:
        """Let the role do more."""
        for statement in statements:
            if self._policy is None:
                self._policy = iam.Policy(self._scope, "Access", roles=[self._role])
            self._policy.add_statements(statement)
            acknowledge_statement(self._policy, statement)

    def before(self, resource: IConstruct) -> None:
        """SageMaker refuses what needs a right that the role has not yet: its policies go first."""
        resource.node.add_dependency(self._role)
        if self._policy is not None:
            resource.node.add_dependency(self._policy)
