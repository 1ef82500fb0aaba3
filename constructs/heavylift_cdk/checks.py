"""What cdk-nag finds and we keep: each finding's id with the reason, on the construct that it is about.

Not the checking: tests/test_stacks_checks.py runs the AwsSolutions pack, and any finding without a reason fails there.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_s3 as s3
from constructs import IConstruct

from heavylift_cdk.values import stack_of


def acknowledge(construct: IConstruct, finding: str, reason: str) -> None:
    """Keep one finding of the AwsSolutions pack on `construct` and what is in it."""
    if construct not in _OF:
        _OF[construct] = Validations.of(construct)
    _OF[construct].acknowledge(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{finding}", reason=reason))


_OF: WeakKeyDictionary[IConstruct, Validations] = WeakKeyDictionary()


def acknowledge_objects(construct: IConstruct, bucket: s3.IBucket, keys: str, reason: str) -> None:
    """Keep the finding that `construct`'s policy speaks of many objects, `keys`, of `bucket`."""
    acknowledge(construct, f"IAM5[Resource::{_shown_arn(construct, bucket)}/{keys}]", reason)


def shown(resolved: Any) -> str:
    """A resolved value in the words of a finding."""
    match resolved:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::ImportValue": name}:
            return str(name)
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(shown(part) for part in parts)
    return str(resolved)


def _shown_arn(construct: IConstruct, bucket: s3.IBucket) -> str:
    """The bucket's ARN in the words of a finding: by its resource in the same stack, by its export in another."""
    here, home = stack_of(construct), stack_of(bucket)
    if here is home:  # jsii makes one object for each of Node's
        return shown(here.resolve(bucket.bucket_arn))
    if (found := _EXPORTED.get(bucket)) is None:
        found = _EXPORTED[bucket] = shown(here.resolve(home.export_value(bucket.bucket_arn)))
    return found


_EXPORTED: WeakKeyDictionary[s3.IBucket, str] = WeakKeyDictionary()
"""A bucket's ARN as other stacks import it: the same in all of them."""
