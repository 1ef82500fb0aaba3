"""What a container is sent of an invocation, and what is said where it fails. Not the sending."""

from __future__ import annotations

from .container import Container
from .errors import ApiError

PREFIX = "x-amzn-sagemaker-"
_FORWARDED = ("custom-attributes", "session-id", "inference-id", "prefix-aware-id")


def request_headers(given: dict[str, str]) -> dict[str, str]:
    """What the container gets: SageMaker strips every header that its API does not name."""
    sent = {
        "Content-Type": given.get("content-type") or "application/json",
        "Accept": given.get(f"{PREFIX}accept") or given.get("accept", "*/*"),
    }
    return sent | {PREFIX + name: given[PREFIX + name] for name in _FORWARDED if PREFIX + name in given}


def model_error(status: int, text: str, container: Container, variant: str = "the variant") -> ApiError:
    """SageMaker's 424 for a container's error; status 0 where there was no answer."""
    members = {"OriginalStatusCode": status, "OriginalMessage": text, "LogStreamArn": str(container.log)}
    return ApiError("ModelError", complaint(status, text, variant, container), 424, members)


def complaint(status: int, text: str, variant: str, container: Container) -> str:
    """The sentence of it."""
    side = "client" if 400 <= status < 500 else "server"
    return f'Received {side} error ({status}) from {variant} with message "{text}". See {container.log}.'
