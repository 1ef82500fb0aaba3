"""The exceptions of Heavylift: a sentence for the user, and the exit code of the command that it ends.

Not for programming errors: those are assertions.

    HeavyliftError      1  the command failed
    ├── InputError      2  the user's file, option or environment is wrong; lists every fault
    ├── ToolError       1  a program we need is missing or failed (Node, npm, the CDK CLI)
    ├── BusyError       1  another command holds what this one needs
    ├── DeployError     1  CloudFormation or SageMaker refused
    │   └── SloMissed   3  the benchmark measured the endpoint and it missed its targets
    └── Inconclusive    4  the measurement can neither pass nor fail it
"""

from __future__ import annotations

from collections.abc import Iterable


class HeavyliftError(Exception):
    """A command failed; the message says what is wrong, the value, what is allowed, how to mend it."""

    exit_code = 1


class InputError(HeavyliftError):
    """The user's input is wrong; carries every fault at once, one line each."""

    exit_code = 2

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class ToolError(HeavyliftError):
    """A program that Heavylift needs is missing or failed."""


class BusyError(HeavyliftError):
    """Another command holds what this one needs."""


class DeployError(HeavyliftError):
    """CloudFormation or SageMaker refused a deployment."""


class SloMissed(DeployError):
    """The benchmark measured the endpoint, and it missed its targets."""

    exit_code = 3


class Inconclusive(HeavyliftError):
    """The measurement can neither pass nor fail the endpoint."""

    exit_code = 4
