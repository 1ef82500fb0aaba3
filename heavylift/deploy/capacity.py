"""What SageMaker's lack of machines means, and trying again: capacity comes and goes, a quota has to be raised.

Not the quotas' numbers: quota.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from heavylift.errors import DeployError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 900.0
"""Seconds before another try; doubled each time."""

EXPLAINED = (
    (
        ("InsufficientInstanceCapacity", "Unable to provision requested ML compute capacity", "insufficient capacity"),
        "AWS has no {type} free in this region now, whatever your quota is: deploy with --retry-capacity N, give "
        "'instance_pools' with other types, reserve capacity ('capacity_reservation'), or use another region",
    ),
    (
        ("ResourceLimitExceeded", "service limit", "account-level service limit"),
        "your account's quota '{quota}' is too small: ask for more at Service Quotas, Amazon SageMaker, or stop "
        "another one that uses it; a new try does not help",
    ),
)


NAMED = re.compile(r"service limit '([^']{1,200})'")
"""How SageMaker names the quota that is too small: an endpoint's, or a job's."""


class NoCapacity(DeployError):
    """AWS had no machine of the type; another try may find one."""


def explained(reasons: Iterable[str], type_: str) -> list[str]:
    """What to do about each lack that the reasons of a failed deployment tell of."""
    text = "\n".join(reasons)
    named = NAMED.search(text)
    quota = f"{type_} for endpoint usage" if named is None else named[1]
    told = [what for words, what in EXPLAINED if any(word.lower() in text.lower() for word in words)]
    return [what.format(type=type_, quota=quota) for what in told]


def lacks_capacity(reasons: Iterable[str]) -> bool:
    """Whether another try may help."""
    text = "\n".join(reasons).lower()
    return any(word.lower() in text for word in EXPLAINED[0][0])


def retried(
    deploy: Callable[[], T], retries: int, say: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> T:
    """The deployment's result, tried again at most `retries` times while AWS has no capacity.

    Raises the last NoCapacity, and at once whatever else ends a deployment.
    """
    seconds = FIRST_PAUSE
    for left in range(retries, 0, -1):
        try:
            return deploy()
        except NoCapacity as lack:
            say(f"{lack}\nno capacity: trying again in {seconds:.0f} s; {left} of {retries} left")
            pause(seconds)
            seconds = min(2 * seconds, LONGEST_PAUSE)
    return deploy()
