"""EventBridge hands an event to Lambda's asynchronous queue, as in AWS: tried again, then told to its destination.

Not the queue, which is MiniStack's own: its EventBridge calls a function once and forgets it. AWS: Lambda developer
guide, "How Lambda handles errors and retries with asynchronous invocation".
"""

from __future__ import annotations

import json
from typing import Any

from . import seams


def install() -> None:
    """From now on a function that dies of an event has two more tries."""
    lambdas: Any = seams.lambdas()
    bus: Any = seams.eventbridge()

    def hand_over(arn: str, payload: str) -> None:
        function, config, _ = lambdas._get_func_record_for_ref(arn)
        if function and config:
            lambdas.invoke_async_with_retry(lambdas._execution_record_for_config(function, config), json.loads(payload))

    bus._dispatch_to_lambda = hand_over
