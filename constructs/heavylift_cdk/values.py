"""Values of the CDK's that have no place in a tree of constructs, each made once: every one is a round trip to Node.

Not constants: nothing speaks to Node when a module is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_iam as iam
from constructs import IConstruct


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


def constant(of: Any, name: str) -> Any:
    """A property of a construct that many others ask for and nothing changes, such as a bucket's name."""
    known = _CONSTANTS.setdefault(of, {})
    if name not in known:
        known[name] = getattr(of, name)
    return known[name]


_CONSTANTS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def allowed(
    actions: Sequence[str], resources: Sequence[str], conditions: Mapping[str, Any] | None = None
) -> iam.PolicyStatement:
    """A statement that is the same in many policies. Nobody may add to it."""
    key = json.dumps([actions, resources, conditions])
    if key not in _ALLOWED:
        _ALLOWED[key] = iam.PolicyStatement(actions=[*actions], resources=[*resources], conditions=conditions)
    return _ALLOWED[key]


_ALLOWED: dict[str, iam.PolicyStatement] = {}


@cache
def partition() -> str:
    """Of the ARNs where the stack that says it is: aws, aws-cn …"""
    return Aws.PARTITION


def stack_of(construct: IConstruct) -> Stack:
    """Its stack, asked for once."""
    if construct not in _STACKS:
        _STACKS[construct] = Stack.of(construct)
    return _STACKS[construct]


_STACKS: WeakKeyDictionary[IConstruct, Stack] = WeakKeyDictionary()


def is_token(text: str) -> bool:
    """Whether (a part of) it is known only when it is deployed. The CDK writes such strings as "${Token[…]}" (AWS CDK
    developer guide, "Tokens and the AWS CDK", String-encoded tokens)."""
    return "${Token[" in text
