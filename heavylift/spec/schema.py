"""The JSON Schema of a model file, for editors (YAML language server), CI, and `heavylift schema`.

Not the rules between fields: those only `heavylift validate` knows. JSON Schema 2020-12
(https://json-schema.org/draft/2020-12/schema). A file that extends another, and an environment, may leave out what they
inherit, and take it away with `null`; what replaces a choice or a list is complete.
"""

from __future__ import annotations

from typing import Any

from heavylift.spec.fault import Path
from heavylift.spec.layers import BASE, ENVIRONMENT, ENVIRONMENTS, EXTENDS, LONGEST_ENVIRONMENT, WHOLE
from heavylift.spec.model import ModelSpec

Schema = dict[str, Any]
KEPT = ("description", "title")


def schema() -> Schema:
    """The schema of models/<name>.yaml."""
    whole = ModelSpec.model_json_schema()
    definitions = whole.pop("$defs")
    overlay = _overlay(whole, (), definitions)
    own: Schema = {
        EXTENDS: {
            "type": "string",
            "pattern": f"^{BASE.pattern}$",
            "description": "a .yaml file beside this one, or below, that this one is laid over",
        },
        ENVIRONMENTS: {
            "type": "object",
            "propertyNames": {"pattern": f"^{ENVIRONMENT.pattern}$", "maxLength": LONGEST_ENVIRONMENT},
            "additionalProperties": {"$ref": "#/$defs/Overlay"},
            "description": "overlays for --env",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a model file of Heavylift",
        "type": "object",
        "additionalProperties": False,
        "properties": {**own, **overlay["properties"]},
        "required": ["name"],
        "if": {"required": [EXTENDS]},
        "else": {"required": whole["required"], "properties": whole["properties"]},
        "$defs": {**definitions, "Overlay": overlay},
    }


def _overlay(schema: Schema, path: Path, definitions: Schema) -> Schema:
    """The same keys, none of them required, each of them also null; lists and choices stay as they are."""
    if path in WHOLE:
        return schema
    if "$ref" in schema:
        meant = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return _overlay(meant, path, definitions) if "properties" in meant else schema
    if "anyOf" in schema:
        members = [_overlay(member, path, definitions) for member in schema["anyOf"]]
        return {**schema, "anyOf": members}
    if "properties" not in schema:
        return schema
    properties = {key: _inherited(each, (*path, key), definitions) for key, each in schema["properties"].items()}
    return {**{key: value for key, value in schema.items() if key != "required"}, "properties": properties}


def _inherited(schema: Schema, path: Path, definitions: Schema) -> Schema:
    told = {key: schema[key] for key in KEPT if key in schema}
    bare = {key: value for key, value in schema.items() if key not in (*KEPT, "default")}
    return {**told, "anyOf": [_overlay(bare, path, definitions), {"type": "null"}]}
