"""Turns pydantic's errors into sentences: what is wrong, the value, what is allowed, the nearest valid key.

One sentence for each place in the document, worded from the JSON Schema; pydantic's own texts are not shown, since
they speak of Python types and repeat themselves for each member of a union.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import ValidationError

from heavylift.spec.fault import Fault, Path, dotted, short, shown
from heavylift_runtime.keys import KEYS

Schema = dict[str, Any]
Homes = Callable[[], dict[str, list[Path]]]
NEAR = 0.8  # fp64 is not meant to be fp16
OF_MAPPINGS = ("extra_forbidden", "missing")
"""Faults of a mapping itself, not of its being one."""


def field_faults(error: ValidationError, data: Any, schema: Schema) -> list[Fault]:
    """The faults of single fields, in the document's order of fields, without doubles."""
    faults: dict[tuple[Path, bool], Fault] = {}
    homes = cache(lambda: _homes(schema))
    for entry in error.errors(include_url=False, include_input=False, include_context=False):
        if entry["type"] == "too_short" and _walk(tuple(entry["loc"]), data, schema)[1]:
            continue  # the list is not empty: its members are faulty, and say so themselves
        _, value, meant = _walk(tuple(entry["loc"]), data, schema)
        if isinstance(value, dict) and "properties" in meant and entry["type"] not in OF_MAPPINGS:
            continue  # the union has one mapping, and that one's own faults are told
        fault = _fault(entry["type"], tuple(entry["loc"]), data, schema, homes)
        faults.setdefault((fault.path, fault.at_key), fault)
    return list(faults.values())


def allowed(schema: Schema, root: Schema) -> str:
    """What a value may be, in words: `'auto' or a whole number from 60 to 3600`."""
    schema = _resolved(schema, root)
    if members := schema.get("anyOf"):
        return " or ".join(allowed(member, root) for member in members if member.get("type") != "null")
    if tags := schema.get("discriminator"):
        return f"a mapping with '{tags['propertyName']}': {_choice(tags['mapping'])}"
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return _choice(schema["enum"])
    if "patternErrorMessage" in schema:
        return str(schema["patternErrorMessage"])
    match schema.get("type"):
        case "integer":
            return "a whole number" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "boolean":
            return "true or false"
        case "string":
            most = f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
            return ("text, not empty," if schema.get("minLength") else "text") + most
        case "array":
            return ("a non-empty list: " if schema.get("minItems") else "a list: ") + allowed(schema["items"], root)
        case _:
            keys = list(schema.get("properties", {}))
            return "a mapping" + (f" with {_choice(keys, 'and')}" if 0 < len(keys) <= 5 else " of keys and values")


def _fault(kind: str, location: Path, data: Any, root: Schema, homes: Homes) -> Fault:
    path, value, schema = _walk(location, data, root)
    if kind == "extra_forbidden":
        return Fault(path, _unknown(path, _walk(path[:-1], data, root)[2], homes), at_key=True)
    if kind == "missing":
        missing = (*path, location[-1])
        return Fault(missing, f"'{dotted(missing)}' is missing: {allowed(schema['properties'][location[-1]], root)}")
    if kind == "union_tag_invalid":
        tags = schema["discriminator"]
        path, value = (*path, tags["propertyName"]), value[tags["propertyName"]]
        near = difflib.get_close_matches(str(value).lower(), tags["mapping"], n=1, cutoff=NEAR)
        hint = f"; did you mean {shown(near[0])}?" if near else ""
        return Fault(path, f"'{dotted(path)}' must be {_choice(tags['mapping'])}; got {shown(value)}{hint}")
    if kind == "union_tag_not_found" and isinstance(value, dict):
        tags = schema["discriminator"]
        return Fault(path, f"'{dotted((*path, tags['propertyName']))}' is missing: {_choice(tags['mapping'])}")
    subject = f"'{dotted(path)}'" if path else "the file"
    return Fault(path, f"{subject} must be {allowed(schema, root)}; got {shown(value)}{_mend(value, schema, root)}")


def _mend(value: Any, schema: Schema, root: Schema) -> str:
    """The word that was meant, or the quotes without which YAML reads a number, a flag or a day."""
    words = _words(schema, root)
    if isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), words, n=1, cutoff=NEAR)
        return f"; did you mean {shown(near[0])}?" if near else ""
    if words or not isinstance(value, int | float | datetime.date):
        return ""
    texts = [_resolved(each, root) for each in [schema, *(schema.get("anyOf") or ())]]
    fits = any(each.get("type") == "string" and re.search(each.get("pattern", ""), str(value)) for each in texts)
    return "; put it in quotes" if fits else ""


def _words(schema: Schema, root: Schema) -> list[str]:
    """The texts of which the value must be one."""
    members = [_resolved(each, root) for each in [schema, *(schema.get("anyOf") or ())]]
    found = [word for each in members for word in (*each.get("enum", ()), each.get("const"))]
    return [word for word in found if isinstance(word, str)]


def _walk(location: Path, data: Any, root: Schema) -> tuple[Path, Any, Schema]:
    """Follow pydantic's location; steps that the document has not (names of union members) are skipped."""
    path: Path = ()
    schema = _chosen(root, data, root)
    for step in location:
        if isinstance(data, dict) and step in data:
            schema = schema.get("properties", {}).get(step) or schema.get("additionalProperties") or {}
        elif isinstance(data, list) and isinstance(step, int):
            schema = schema.get("items", {})
        else:
            continue
        path, data = (*path, step), data[step]
        schema = _chosen(schema, data, root)
    return path, data, schema


def _chosen(schema: Schema, data: Any, root: Schema) -> Schema:
    """The member of a tagged union that the data names, the one mapping for a mapping, or X of `X or nothing`; else
    the schema itself."""
    schema = _resolved(schema, root)
    if (tags := schema.get("discriminator")) and isinstance(data, dict):
        named = tags["mapping"].get(str(data.get(tags["propertyName"])))
        return _resolved({"$ref": named}, root) if named is not None else schema
    members = [member for member in schema.get("anyOf") or [] if member.get("type") != "null"]
    mappings = [member for member in members if "properties" in _resolved(member, root)]
    members = mappings if isinstance(data, dict) and len(mappings) == 1 else members
    if len(members) != 1:
        return schema
    member = {**schema, **members[0], "anyOf": None}
    return _chosen(member, data, root) if "discriminator" in member else _resolved(member, root)


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    return schema if reference is None else root["$defs"][reference.rsplit("/", 1)[1]]


def _unknown(path: Path, parent: Schema, homes: Homes) -> str:
    key = str(path[-1])
    keys = list(parent.get("properties", {}))
    sentence = f"unknown key '{short(key)}'"
    first, dot, rest = key.partition(".")
    if dot and rest and first in keys:
        return f"{sentence}; write '{short(rest)}' below '{first}', indented"
    if near := difflib.get_close_matches(key.lower().replace("-", "_"), keys, n=1):
        return f"{sentence}; did you mean '{near[0]}'?"
    found = sorted((home for home in homes().get(key, ()) if home != path), key=len)
    if found and (len(found) == 1 or len(found[0]) < len(found[1])):
        where = f"it belongs to '{dotted(found[0])}'" if len(found[0]) > 1 else "it stands at the top of the file"
        return f"{sentence} here; {where}"
    if len(path) == 1 and f"option.{key}" in KEYS:
        return f"{sentence} here; it belongs to 'options.{key}'"
    return f"{sentence}; allowed here: {', '.join(keys)}"


def _homes(root: Schema) -> dict[str, list[Path]]:
    """Where in the file a key of each name is valid, reached through mappings only."""
    homes: dict[str, list[Path]] = {}

    def look(schema: Schema, at: Path) -> None:
        for name, member in schema.get("properties", {}).items():
            homes.setdefault(name, []).append((*at, name))
            look(_chosen(member, None, root), (*at, name))

    look(_chosen(root, None, root), ())
    return homes


def _choice(values: Any, word: str = "or") -> str:
    *most, last = [shown(value) for value in values]
    return f"{', '.join(most)} {word} {last}" if most else last


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    least = f"of at least {low}" if low is not None else f"above {above}" if above is not None else ""
    most = f"at most {high}" if high is not None else f"below {below}" if below is not None else ""
    return "".join(f" {words}" for words in (least, "and" if least and most else "", most) if words)
