"""A user's function, called with as much of what there is for it as it takes. Not which functions there are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def offered(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call it with the first of what it is given, and with what it names."""
    takes = inspect.signature(function).parameters.values()
    every = any(each.kind is each.VAR_KEYWORD for each in takes)
    kept = {name: value for name, value in named.items() if every or any(each.name == name for each in takes)}
    places = [each for each in takes if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    most = len(given) if any(each.kind is each.VAR_POSITIONAL for each in takes) else len(places)
    return function(*given[: most - sum(each.name in kept for each in places)], **kept)
