"""The two ways in which a request or an endpoint fails.

Not for faults of ours: those are logged and answered with 500.
"""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An AWS error reply: its code, its HTTP status, a sentence, and further members of the reply."""

    def __init__(self, code: str, message: str, status: int = 400, members: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.members = {} if members is None else dict(members)


class EndpointFailed(Exception):
    """An endpoint did not come up; the message becomes its FailureReason."""


def invalid(message: str) -> ApiError:
    """SageMaker's and Auto Scaling's answer to a request that cannot be right."""
    return ApiError("ValidationException", message)
