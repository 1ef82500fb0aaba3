"""Generators: the state machine that has several Lambdas make one load, and one more merge, judge and answer.

Not what they send (heavylift/benchmark/shards.py). States by the Amazon States Language (https://states-language.net),
the Distributed Map as in the AWS Step Functions developer guide, "Using Map state in Distributed mode".
"""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from heavylift_cdk.checks import acknowledge
from heavylift_cdk.values import service

INVOKE = "arn:{partition}:states:::lambda:invoke"
LAMBDA_SECONDS = 900
WHOLE_SECONDS = 2400  # the generators' Lambda, then the one that merges, and starts between them


class Generators(Construct):
    """Runs all `count` generators at the same time, and never one twice: a second load would be another load. Whatever
    becomes of them, the last state answers CloudFormation.

    `arn` is for who starts it; `ready` is what he must wait for.
    """

    def __init__(self, scope: Construct, id: str, *, runner: lambda_.Function, count: int) -> None:
        super().__init__(scope, id)
        role = iam.Role(self, "Role", assumed_by=service("states"))
        invoke = iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[runner.function_arn])
        may_invoke = iam.Policy(self, "Invoke", roles=[role], statements=[invoke])
        machine = stepfunctions.CfnStateMachine(
            self,
            "Machine",
            role_arn=role.role_arn,
            definition_string=Stack.of(self).to_json_string(self._definition(runner, count)),
        )
        machine.node.add_dependency(may_invoke)
        acknowledge(machine, "SF1", "its history is kept for 90 days, and holds no payload but names and numbers")
        acknowledge(machine, "SF2", "each generator's samples say when it did what")
        self.arn = machine.attr_arn
        self.ready = (self._may_have_children(role, machine), self._may_be_started(runner))

    def _definition(self, runner: lambda_.Function, count: int) -> dict[str, Any]:
        def task(payload: dict[str, Any], **rest: Any) -> dict[str, Any]:
            return {
                "Type": "Task",
                "Resource": INVOKE.format(partition=Stack.of(self).partition),
                "Parameters": {"FunctionName": runner.function_arn, "Payload": payload},
                "TimeoutSeconds": LAMBDA_SECONDS,
                "ResultSelector": {"status.$": "$.StatusCode"},  # of 100 generators, more would not fit into a state
                **rest,
            }

        caught = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Answer failure"}
        one = task({"Share.$": "$.share", "Generator.$": "$.generator"}, End=True)
        return {
            "TimeoutSeconds": WHOLE_SECONDS,
            "StartAt": "Generate",
            "States": {
                "Generate": {
                    "Type": "Map",
                    "ItemsPath": "$.generators",
                    "ItemSelector": {"share.$": "$.share", "generator.$": "$$.Map.Item.Value"},
                    "MaxConcurrency": count,
                    "ToleratedFailureCount": 0,
                    "ItemProcessor": {
                        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                        "StartAt": "Send",
                        "States": {"Send": one},
                    },
                    "ResultPath": "$.sent",
                    "Catch": [caught],
                    "Next": "Merge and answer",
                },
                "Merge and answer": task({"Share.$": "$.share"}, ResultPath="$.answered", Catch=[caught], End=True),
                "Answer failure": task({"Share.$": "$.share", "Error.$": "$.error"}, End=True),
            },
        }

    def _may_have_children(self, role: iam.Role, machine: stepfunctions.CfnStateMachine) -> iam.Policy:
        """A Distributed Map starts executions of its own state machine."""
        children = Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{machine.attr_name}/*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        start = iam.PolicyStatement(actions=["states:StartExecution"], resources=[machine.attr_arn])
        watch = ["states:DescribeExecution", "states:StopExecution"]
        policy = iam.Policy(
            self, "Children", roles=[role], statements=[start, iam.PolicyStatement(actions=watch, resources=[children])]
        )
        shown = f"{self._id_of(machine)}.Name>/*"
        where = "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:<"
        acknowledge(policy, f"IAM5[Resource::{where}{shown}]", "its own children, which Step Functions names")
        return policy

    def _may_be_started(self, runner: lambda_.Function) -> iam.Policy:
        assert runner.role is not None
        start = iam.PolicyStatement(actions=["states:StartExecution"], resources=[self.arn])
        return iam.Policy(self, "Start", roles=[runner.role], statements=[start])

    def _id_of(self, machine: stepfunctions.CfnStateMachine) -> str:
        return str(json.loads(json.dumps(Stack.of(self).resolve(machine.attr_name)))["Fn::GetAtt"][0])
