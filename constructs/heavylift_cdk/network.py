"""Network: the VPC in which containers run. Not the pulling of their image: that is Container.image_access.

Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_VpcConfig.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam

from heavylift_cdk.bounds import between

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_ec2 as ec2


@dataclass(frozen=True)
class Network:
    """Subnets and security groups, by their ids. Make one with a named constructor."""

    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]

    @classmethod
    def from_ids(cls, subnets: tuple[str, ...], security_groups: tuple[str, ...]) -> Network:
        """What exists already."""
        return cls(subnets, security_groups)

    @classmethod
    def from_subnets(cls, subnets: Sequence[ec2.ISubnet], security_groups: Sequence[ec2.ISecurityGroup]) -> Network:
        """Those of a VPC of the app, such as vpc.private_subnets."""
        return cls(tuple(each.subnet_id for each in subnets), tuple(each.security_group_id for each in security_groups))

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("subnets", len(self.subnets), 1, 16)
        yield from between("security_groups", len(self.security_groups), 1, 5)

    @staticmethod
    def statements() -> list[iam.PolicyStatement]:
        """What the endpoint's role needs to attach to a VPC (SageMaker developer guide, "SageMaker AI Roles",
        CreateModel); EC2 lets most of these name no resource."""
        actions = [
            "ec2:CreateNetworkInterface",
            "ec2:CreateNetworkInterfacePermission",
            "ec2:DeleteNetworkInterface",
            "ec2:DeleteNetworkInterfacePermission",
            "ec2:DescribeDhcpOptions",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcEndpoints",
            "ec2:DescribeVpcs",
        ]
        return [iam.PolicyStatement(actions=actions, resources=["*"])]
