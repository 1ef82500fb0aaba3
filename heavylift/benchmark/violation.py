"""The CloudWatch metric SloViolation: 1 where an endpoint missed its targets, 0 where it met them.

Not the alarm on it (heavylift_cdk/slo_alarm.py). What could not be judged puts nothing: the alarm keeps its state.
"""

from __future__ import annotations

import logging

import boto3
from botocore.exceptions import BotoCoreError, ClientError

NAMESPACE, METRIC, DIMENSION = "Heavylift", "SloViolation", "EndpointName"
VALUES = {"FAIL": 1.0, "PASS": 0.0}

logger = logging.getLogger(__name__)


def publish(endpoint: str, verdict: str) -> None:
    """Put the metric for a verdict. A metric that cannot be put is logged: it must not decide over a deployment."""
    if verdict not in VALUES:
        return
    datum = {
        "MetricName": METRIC,
        "Dimensions": [{"Name": DIMENSION, "Value": endpoint}],
        "Value": VALUES[verdict],
        "Unit": "None",
        "StorageResolution": 1,  # the alarm looks at ten seconds at a time
    }
    try:
        boto3.client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=[datum])
    except (BotoCoreError, ClientError):
        logger.exception("the metric %s/%s of %s could not be put", NAMESPACE, METRIC, endpoint)
