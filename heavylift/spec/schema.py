"""The JSON Schema of the model file, for editors (YAML language server) and for `heavylift schema`."""

from __future__ import annotations

from typing import Any

from heavylift.spec.model import ModelSpec


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 (https://json-schema.org/draft/2020-12/schema) of models/<name>.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ModelSpec.model_json_schema()}
