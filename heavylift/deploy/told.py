"""What a finished deployment tells: the table, the verdict, where the page is, how to call the endpoint.

Not the table and the page themselves: those are heavylift.report's.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
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


def calls(endpoint: str, file: Path, workload: str | dict[str, Any] | None, *, local: bool) -> str:
    """Three ways to call an endpoint, each to be copied as it stands: a shell's line, a Python script, curl."""
    text = "Hello" if workload is None else next(Workload.load(workload).batches(1, seed=0))[0].input
    body = json.dumps({"inputs": [text], "parameters": {"max_new_tokens": 48}})
    runtime = boto3.client("sagemaker-runtime").meta
    options = {"region_name": runtime.region_name}
    sign = ""
    if local:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        options |= {"endpoint_url": runtime.endpoint_url, **keys}
    else:
        # no header without a session token: curl 7.88 signs an empty one, and does not send it
        sign = (
            f"--aws-sigv4 aws:amz:{runtime.region_name}:sagemaker "
            '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n'
            "  ${AWS_SESSION_TOKEN:+-HX-Amz-Security-Token:$AWS_SESSION_TOKEN} "
        )
    given = "".join(f", {name}={json.dumps(value)}" for name, value in options.items())
    invoke = shlex.join([program(), "invoke", os.path.relpath(file), *(["--local"] if local else []), text])
    return f"""call it with heavylift, boto3 or curl:

{invoke}

import boto3
runtime = boto3.client("sagemaker-runtime"{given})
reply = runtime.invoke_endpoint(EndpointName="{endpoint}", ContentType="application/json", Body={body!r})
print(reply["Body"].read().decode())

curl {sign}-H "Content-Type: application/json" -d {shlex.quote(body)} \\
  {runtime.endpoint_url}/endpoints/{endpoint}/invocations"""


def program() -> str:
    """What to type for this command: its name where PATH leads to it, else its path."""
    own = Path(sys.executable).with_name("heavylift")
    found = shutil.which("heavylift")
    return "heavylift" if found is not None and Path(found).resolve() == own.resolve() else os.path.relpath(own)
