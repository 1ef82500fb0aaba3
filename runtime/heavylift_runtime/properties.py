"""The text of serving.properties as a mapping. Not its meaning: that is options.py.

Java properties as LMI reads them: one `key=value` a line, the value is everything after the first `=`, `#` and `!`
begin a comment line. Where LMI's two readers disagree (a continued line, a key given twice) the line is refused.
Source: deepjavalibrary/djl-serving v0.23, serving/docker/partition/properties_manager.py.
"""

from __future__ import annotations

from heavylift_runtime.errors import OptionsError


def read_properties(text: str) -> dict[str, str]:
    """Keys and values in the order of the file; raises OptionsError with every faulty line."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#!":
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            faults.append(f"line {number} is not 'key=value': got {line[:80]!r}")
        elif value.endswith("\\"):
            faults.append(f"line {number} ends in a backslash: write the value of {key!r} in one line")
        elif key in lines:
            faults.append(f"{key!r} is given twice, in lines {lines[key]} and {number}: keep one of them")
        else:
            values[key], lines[key] = value, number
    if faults:
        raise OptionsError(f"serving.properties: {fault}" for fault in faults)
    return values
