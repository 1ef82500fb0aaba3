"""serving.properties, rendered by Jinja from a plan's properties. Not what they should be: that is the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from heavylift.errors import InputError

if TYPE_CHECKING:
    from heavylift.plan.plan import Plan

NAME = "serving.properties"
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


def render(plan: Plan) -> str:
    """The text of serving.properties; the same plan gives the same text."""
    return render_properties(plan.properties)


def render_properties(properties: Iterable[tuple[str, str]]) -> str:
    """Raises InputError for a key or value that would not be read back as it is written."""
    rows = tuple(properties)
    faults = [fault for row in rows if (fault := _fault(*row)) is not None]
    if faults:
        raise InputError(faults)
    return _template().render(properties=rows)


@cache
def _template() -> Template:
    """Compiled once: there may be a hundred models."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    text = (resources.files("heavylift.serving") / "templates" / f"{NAME}.j2").read_text("utf-8")
    return environment.from_string(text)


def _fault(key: str, value: str) -> str | None:
    if not KEY.fullmatch(key):
        return f"{NAME}: {key!r} is not a key: letters, digits, '_' and '.', beginning with a letter"
    if not value or not value.isprintable() or value != value.strip() or value.endswith("\\"):
        allowed = "printable text in one line, without blanks around or a backslash at the end"
        return f"{NAME}: '{key}' must be {allowed}; got {value!r}"
    return None
