"""`bench --managed`: SageMaker's own job sends the load; its records get our report and our verdict.

Not what the job is asked, nor its records (heavylift.benchmark.managed).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

from heavylift.benchmark import managed
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.errors import HeavyliftError, InputError

POLL_S = 15.0
UNDER_WAY = ("InProgress", "Stopping")


def measured_by_job(
    benchmark: Benchmark,
    *,
    run: str,
    endpoint: str,
    output_uri: str,
    role_arn: str,
    pause: Callable[[float], None] = time.sleep,
) -> Recording:
    """Start the job, wait for it, and read its records. Raises InputError for what it cannot do, HeavyliftError for a
    job that failed."""
    if not output_uri.startswith("s3://"):
        raise InputError(f"--managed is {output_uri!r}; it must be where the job writes, s3://bucket/prefix/")
    sagemaker, name = boto3.client("sagemaker"), f"heavylift-{run.lower()}"
    try:
        config = managed.workload_config(benchmark, name)  # no config can be changed: each run has its own
    except FormatError as error:
        raise InputError(error.faults) from error
    asked = managed.job(name=name, config=name, endpoint=endpoint, output_uri=output_uri, role_arn=role_arn)
    deployed = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    sagemaker.create_ai_workload_config(**config)
    sagemaker.create_ai_benchmark_job(**asked)
    while (job := sagemaker.describe_ai_benchmark_job(AIBenchmarkJobName=name))["AIBenchmarkJobStatus"] in UNDER_WAY:
        pause(POLL_S)
    if job["AIBenchmarkJobStatus"] != "Completed":
        raise HeavyliftError(
            f"the job {name} is {job['AIBenchmarkJobStatus']}: {job.get('FailureReason', 'no reason')}"
        )
    lines = _records(boto3.client("s3"), job["OutputConfig"]["S3OutputLocation"], name)
    after = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    try:
        return managed.recording(lines, benchmark, run=run, endpoint=endpoint, endpoint_config=deployed, observed=after)
    except FormatError as error:
        raise HeavyliftError("; ".join(error.faults)) from error


def _records(s3: Any, uri: str, name: str) -> bytes:
    """The records of the job, wherever below its output they are. Raises HeavyliftError where there are none."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        found = [key for key in keys if key.endswith(f"/{managed.RECORDS}") or key == managed.RECORDS]
        own = [key for key in found if name in key] or found
        if len(own) != 1:
            raise HeavyliftError(f"{uri} has {len(own)} files {managed.RECORDS} for {name}; there must be one")
        body: bytes = s3.get_object(Bucket=bucket, Key=own[0])["Body"].read()
    except ClientError as error:
        raise HeavyliftError(f"the job's output cannot be read: {error}") from error
    return body
