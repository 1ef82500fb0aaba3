"""The server's own times of a request, told to the client that asks: where its latency comes from.

Not the log (journal.py). A request whose custom attributes name `heavylift-times` gets them back in those of the reply,
behind what else is there. SageMaker's API reference of InvokeEndpoint: custom attributes are at most 1024 characters of
ASCII; where there is no room, they stay as they were.
"""

from __future__ import annotations

from collections.abc import Mapping

ASKED = "heavylift-times"
MOST = 1024


def with_times(attributes: str, asked: str, times: Mapping[str, float | None]) -> str:
    """A reply's attributes with `heavylift-<name>-us=<whole microseconds>` of each time (in seconds) that is known,
    where `asked`, the request's attributes, name them."""
    if ASKED not in (each.partition("=")[0].strip() for each in asked.split(";")):
        return attributes
    told = [f"heavylift-{name}-us={round(seconds * 1e6)}" for name, seconds in times.items() if seconds is not None]
    whole = ";".join([attributes, *told] if attributes else told)
    return whole if len(whole) <= MOST else attributes
