"""The Lambda that measures an endpoint which stands already: by hand, or on a schedule.

Not a gate (handler.py): no deployment waits for it, and nothing is rolled back. The report goes where the gate's go,
and the same metric is put.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from heavylift.benchmark.answer import Answer
from heavylift.benchmark.gate import RESERVE, Gate
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import GateClosed, described

logger = logging.getLogger(__name__)

NEEDED = ("ENDPOINT_NAME", "BENCHMARK", "REPORTS_BUCKET")


def handler(event: Mapping[str, Any], context: Any) -> dict[str, str]:
    """Lambda's entry; what the event says is of no matter. Gives `Verdict`, `ReportUri` and `Reason`. Raises GateClosed
    for an endpoint that cannot be measured, or an environment that does not say what to measure, FormatError."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise GateClosed(f"the Lambda's environment lacks {', '.join(missing)}")
    endpoint, text, bucket = (os.environ[name] for name in NEEDED)
    benchmark, seconds = Benchmark.from_json(text), float(context.get_remaining_time_in_millis()) / 1000
    if isinstance(benchmark.load, OpenLoad) and benchmark.load.generators > 1:
        raise GateClosed("a load by several generators needs the gate's state machine; leave 'generators' out")
    if benchmark.max_seconds > seconds - RESERVE:
        most = max(0.0, seconds - RESERVE)
        raise GateClosed(f"max_seconds is {benchmark.max_seconds:g}; this Lambda has time for at most {most:.0f}")
    if (found := described(endpoint)) is None:
        raise GateClosed(f"there is no endpoint {endpoint}; nothing was benchmarked")
    digest = hashlib.sha256(text.encode()).hexdigest()
    answer = Gate(endpoint, found["EndpointConfigName"], digest, benchmark).run(bucket=bucket, seconds_left=seconds)
    assert isinstance(answer, Answer), "one leg is enough, and nothing is staged"
    logger.info(answer.reason)
    return {"Verdict": answer.data["Verdict"], "ReportUri": answer.data["ReportUri"], "Reason": answer.reason}
