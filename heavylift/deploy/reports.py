"""The gate's reports in the report bucket: which are there, and fetching one to a local folder.

Not their making (heavylift.benchmark) nor their drawing (heavylift.report).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One benchmark run in the bucket: its folder `reports/<name>/<run>/`, and report.json's content."""

    prefix: str
    report: dict[str, Any]


def prefixes(s3: Any, bucket: str, name: str) -> list[str]:
    """The folders of a model's runs that have a report, oldest first (run names sort by time)."""
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"reports/{name}/"):
        found += [item["Key"] for item in page.get("Contents", []) if item["Key"].endswith("/report.json")]
    return sorted(key.removesuffix("report.json") for key in found)


def read(s3: Any, bucket: str, prefix: str) -> Run:
    """The report under a prefix that `prefixes` gave."""
    body = s3.get_object(Bucket=bucket, Key=f"{prefix}report.json")["Body"].read()
    return Run(prefix, json.loads(body))


def newest(s3: Any, bucket: str, name: str, *, gate_digest: str, than: frozenset[str] = frozenset()) -> Run | None:
    """The newest run for this gate digest that is not among `than`; None if there is none."""
    for prefix in reversed(prefixes(s3, bucket, name)):
        if prefix not in than:
            run = read(s3, bucket, prefix)
            if run.report["gate_digest"] == gate_digest:
                return run
    return None


def fetch(s3: Any, bucket: str, run: Run, folder: Path) -> Path:
    """Copy report.json and samples.jsonl.gz into `folder`/<run>, and give that folder."""
    target = folder / Path(run.prefix).name
    target.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "samples.jsonl.gz"):
        partial = target / f".{name}"
        s3.download_file(bucket, run.prefix + name, str(partial))
        partial.replace(target / name)
    return target
