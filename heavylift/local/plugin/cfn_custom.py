"""Custom resources: a Lambda that ends in an error, or whose stack is taken back, fails its resource at once.

AWS waits for the resource's ServiceTimeout, up to an hour, because the Lambda may have asked somebody else to answer; a
function that raised or timed out has asked nobody. MiniStack would notice a cancelled operation only between two
resources. A function that goes on after its stack was taken back is left to itself, as in AWS.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from . import seams

TAKES_BACK = ("CancelUpdateStack", "DeleteStack")


class TakenBack(Exception):
    """The stack was taken back while a function of its custom resource was at work."""


class Calls:
    """The custom resources' functions at work, by their stack's id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: dict[str, list[Future[Any]]] = {}

    def run(self, stack: str, call: Callable[[], Any]) -> Any:
        """The call's result or exception; TakenBack at once when the stack is taken back before."""
        future: Future[Any] = Future()
        context = contextvars.copy_context()  # MiniStack keeps the account and region of a request in it

        def body() -> None:
            try:
                result = context.run(call)
            except BaseException as error:
                _settle(future.set_exception, error)
            else:
                _settle(future.set_result, result)

        with self._lock:
            self._at_work.setdefault(stack, []).append(future)
        threading.Thread(target=body, daemon=True).start()
        try:
            return future.result()
        finally:
            with self._lock:
                self._at_work[stack].remove(future)

    def take_back(self, named: str) -> None:
        """Let nobody wait any longer for the functions of a stack, given by its name or id."""
        with self._lock:
            waiting = [each for stack, each in self._at_work.items() if named in (stack, stack.split("/")[1])]
        for future in [future for futures in waiting for future in futures]:
            _settle(future.set_exception, TakenBack())


def _settle(how: Callable[[Any], None], what: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # the other of the two came first
        how(what)


def install() -> None:
    """Answer for a Lambda that ended in an error before it answered itself, or whose stack was taken back."""
    lambdas: Any = seams.lambdas()
    resources, actions, calls = seams.custom_resources(), seams.stack_actions(), Calls()
    execute = lambdas._execute_function_with_config_scope

    def execute_and_answer(function: dict[str, Any], event: Any) -> Any:
        url = event.get("ResponseURL", "") if isinstance(event, dict) else ""
        if not url:
            return execute(function, event)
        reason, result = None, None
        try:
            result = calls.run(event["StackId"], lambda: execute(function, event))
        except TakenBack:
            reason = "the stack was taken back before the function answered"
        if isinstance(result, dict) and result.get("error"):
            body = result.get("body")
            said = body.get("errorMessage") if isinstance(body, dict) else body
            reason = f"the function ended in an error before it answered: {said}"
        if reason is not None:
            _deliver_first(resources, url.rsplit("/", 1)[-1], {"Status": "FAILED", "Reason": reason})
        return result

    lambdas._execute_function_with_config_scope = execute_and_answer
    for name in TAKES_BACK:
        actions[name] = _then_take_back(actions[name], calls)


def _then_take_back(action: Callable[[Any], Any], calls: Calls) -> Callable[[Any], Any]:
    def act(params: Any) -> Any:
        reply = action(params)
        if reply[0] == 200:
            name = params.get("StackName", "")
            calls.take_back(name[0] if isinstance(name, list) else name)
        return reply

    return act


def _deliver_first(resources: Any, token: str, answer: dict[str, Any]) -> None:
    """Deliver the answer unless the function had answered: what it said first holds."""
    with resources._lock:
        entry = resources._pending.get(token)
        answered = entry is None or entry["result"] is not None
    if not answered:
        resources.deliver_response(token, answer)
