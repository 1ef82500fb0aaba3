"""Values of the CDK's that have no place in a tree of constructs, each made once: every one is a round trip to Node.

Not constants: nothing speaks to Node when a module is imported.
"""

from __future__ import annotations

from functools import cache

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam


@cache
def seconds(count: int) -> Duration:
    """So many."""
    return Duration.seconds(count)


@cache
def service(name: str) -> iam.ServicePrincipal:
    """A service of AWS's that takes a role, under no condition: `name`.amazonaws.com."""
    return iam.ServicePrincipal(f"{name}.amazonaws.com")


@cache
def stack_id() -> str:
    """The ARN of the stack that says it."""
    return Aws.STACK_ID


def is_token(text: str) -> bool:
    """Whether (a part of) it is known only when it is deployed. The CDK writes such strings as "${Token[…]}" (AWS CDK
    developer guide, "Tokens and the AWS CDK", String-encoded tokens)."""
    return "${Token[" in text
