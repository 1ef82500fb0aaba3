"""The text of serving.properties as a mapping. Not its meaning: that is options.py.

Java properties as LMI reads them: one `key=value`, `key: value` or `key value` a line, the value is all that follows
the first separator, `#` and `!` begin a comment line, a backslash is a character like any other. Where LMI's two
readers disagree (a continued line, a key given twice) the line is refused.
Sources: java.util.Properties; deepjavalibrary/djl-serving v0.23, serving/docker/partition/properties_manager.py.
"""

from __future__ import annotations

import re

from heavylift_runtime.errors import OptionsError

_LINE_END = re.compile(r"\r\n|\r|\n")  # not all of str.splitlines': a template may hold U+2028
_PAIR = re.compile(r"([^=: \t\f]+)(?:[ \t\f]*[=:][ \t\f]*|[ \t\f]+)(.*)", re.DOTALL)


def read_properties(text: str) -> dict[str, str]:
    """Keys and values in the order of the file; raises OptionsError with every faulty line."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    for number, raw in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        line = raw.strip()
        if not line or line[0] in "#!":
            continue
        if (pair := _PAIR.fullmatch(line)) is None:
            faults.append(f"line {number} is not 'key=value': got {line[:80]!r}")
            continue
        key, value = pair[1], pair[2]
        if value.endswith("\\"):
            faults.append(f"line {number} ends in a backslash: write the value of {key!r} in one line")
        elif key in lines:
            faults.append(f"{key!r} is given twice, in lines {lines[key]} and {number}: keep one of them")
        else:
            values[key], lines[key] = value, number
    if faults:
        raise OptionsError(f"serving.properties: {fault}" for fault in faults)
    return values
