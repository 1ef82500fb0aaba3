"""The answer of a custom resource to CloudFormation: one PUT to the event's ResponseURL.

Not what it answers (gate.py). The protocol: AWS CloudFormation user guide, "Custom resource request and response
reference"; a stack waits for up to an hour for an answer that does not come.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

MOST_BYTES = 4096
ATTEMPTS = 5


@dataclass(frozen=True)
class Answer:
    """`status` is SUCCESS or FAILED; `data` is what Fn::GetAtt reads."""

    status: str
    reason: str
    data: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Answer:
        return cls(**json.loads(text))


def physical_id(event: Mapping[str, Any]) -> str:
    """The same for every request of one logical resource in one stack: an update never replaces the gate. On Delete
    it is the event's own, which may be one that CloudFormation made up for a create that never answered."""
    if event["RequestType"] == "Delete":
        return str(event["PhysicalResourceId"])
    name = f"{event['StackId']}/{event['LogicalResourceId']}"
    return f"heavylift-gate-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def body(event: Mapping[str, Any], answer: Answer) -> bytes:
    """The response document, at most 4096 bytes: the reason gives way, from its end."""
    document: dict[str, Any] = {
        "Status": answer.status,
        "Reason": answer.reason,
        "PhysicalResourceId": physical_id(event),
        **{key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
        "Data": dict(answer.data),
    }
    while len(encoded := json.dumps(document).encode()) > MOST_BYTES and document["Reason"]:
        excess = len(encoded) - MOST_BYTES
        document["Reason"] = document["Reason"][: -max(1, excess // 12)]  # a character takes at most 12 bytes
    return encoded


def send(event: Mapping[str, Any], answer: Answer, *, pause: Callable[[float], None] = time.sleep) -> None:
    """PUT the answer, up to five times. Raises the last OSError, or ValueError for a URL that is not http(s)."""
    url = event["ResponseURL"]
    if urlsplit(url).scheme not in ("https", "http"):
        raise ValueError("the ResponseURL is not an http(s) URL")
    # S3 signed the URL for an empty content type, and refuses the one that urllib would add.
    request = urllib.request.Request(url, body(event, answer), {"Content-Type": ""}, method="PUT")
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            pause(2.0**attempt)
