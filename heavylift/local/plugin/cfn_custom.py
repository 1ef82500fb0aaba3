"""Custom resources: a Lambda that ends in an error fails its resource at once.

AWS waits for the resource's ServiceTimeout, up to an hour, because the Lambda may have asked somebody else to answer; a
function that raised or timed out has asked nobody.
"""

from __future__ import annotations

from typing import Any

from . import seams


def install() -> None:
    """Answer for a Lambda that ended in an error before it answered itself."""
    lambdas: Any = seams.lambdas()
    resources = seams.custom_resources()
    execute = lambdas._execute_function_with_config_scope

    def execute_and_answer(function: dict[str, Any], event: Any) -> Any:
        result = execute(function, event)
        url = event.get("ResponseURL", "") if isinstance(event, dict) else ""
        if url and isinstance(result, dict) and result.get("error"):
            body = result.get("body")
            reason = body.get("errorMessage") if isinstance(body, dict) else body
            answer = {"Status": "FAILED", "Reason": f"the function ended in an error before it answered: {reason}"}
            _deliver_first(resources, url.rsplit("/", 1)[-1], answer)
        return result

    lambdas._execute_function_with_config_scope = execute_and_answer


def _deliver_first(resources: Any, token: str, answer: dict[str, Any]) -> None:
    """Deliver the answer unless the function had answered: what it said first holds."""
    with resources._lock:
        entry = resources._pending.get(token)
        answered = entry is None or entry["result"] is not None
    if not answered:
        resources.deliver_response(token, answer)
