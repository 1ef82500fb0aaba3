"""What a finished deployment tells: the table, the verdict, where the page is, how to call the endpoint.

Not the table and the page themselves: those are heavylift.report's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from heavylift.benchmark.workload import Workload
from heavylift.report import table
from heavylift.report.page import write_page


def tell(report: Mapping[str, Any], folder: Path, *, measured_now: bool = True) -> None:
    """Print a run's table and verdict, draw its page in `folder`, and say where it is."""
    page = write_page(folder)
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(table.table([report]), soft_wrap=False)
    else:
        console.print(table.plain([report]))
    console.print(table.conclusion(report))
    if not measured_now:
        console.print(f"  nothing that matters changed since {report['started_at']}: measured then, not again")
    console.print(f"  report: {page}")


def calls(endpoint: str, file: Path, workload: str | None, *, local: bool) -> str:
    """Three ways to call an endpoint, to be copied: our CLI, boto3, curl."""
    text = "Hello" if workload is None else next(Workload.load(workload).batches(1, seed=0))[0].input
    body = json.dumps({"inputs": [text], "parameters": {"max_new_tokens": 48}})
    if local:
        url = os.environ["AWS_ENDPOINT_URL"]
        keys = 'aws_access_key_id="test", aws_secret_access_key="test"'
        region, options, sign = "us-east-1", f', endpoint_url="{url}",\n      {keys}', ""
    else:
        region = os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
        url, options = f"https://runtime.sagemaker.{region}.amazonaws.com", ""
        sign = (
            f'--aws-sigv4 aws:amz:{region}:sagemaker --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n'
            '       -H "X-Amz-Security-Token: $AWS_SESSION_TOKEN" '
        )
    return f"""call it with heavylift, boto3 or curl:
  heavylift invoke {file}{" --local" if local else ""} "{text}"

  boto3.client("sagemaker-runtime", "{region}"{options}).invoke_endpoint(
      EndpointName="{endpoint}", ContentType="application/json", Body='{body}')["Body"].read()

  curl {sign}-H "Content-Type: application/json" -d '{body}' \\
       {url}/endpoints/{endpoint}/invocations"""
