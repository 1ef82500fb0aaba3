"""The exceptions of the runtime: a sentence for the user, and the exit code of the process that it ends.

Not the core's exceptions (the runtime never imports the core), and not HTTP errors: those are in server/refused.py.

    RuntimeFault        1  the runtime stopped
    ├── OptionsError    2  serving.properties or an environment variable is wrong; lists every fault
    ├── AddressError    2  the port is taken, or the host cannot be bound
    ├── LoadError       1  a model could not be loaded
    │   └── MemoryFault 1  because memory ran out
    └── PromptError     -  one prompt cannot be served; the engine keeps running, the client gets 400
"""

from __future__ import annotations

from collections.abc import Iterable


class RuntimeFault(Exception):
    """The runtime stopped; the message says what is wrong, the value, what is allowed, how to mend it."""

    exit_code = 1


class OptionsError(RuntimeFault):
    """The options are wrong; carries every fault at once, one line each."""

    exit_code = 2

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class AddressError(RuntimeFault):
    """The address cannot be bound."""

    exit_code = 2


class LoadError(RuntimeFault):
    """A model could not be loaded: its files, its script, or its memory."""


class MemoryFault(LoadError):
    """A model could not be loaded, for memory ran out: a multi-model endpoint unloads others and tries again."""


class PromptError(RuntimeFault):
    """A prompt cannot be served; raised by an engine before it computes, so that its ranks stay in step."""


def ran_out(error: BaseException | None) -> bool:
    """Memory ran out, by the names of Python's and torch's errors, and by the words of torch's CPU allocator."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
            return True
        error = error.__cause__
    return False
