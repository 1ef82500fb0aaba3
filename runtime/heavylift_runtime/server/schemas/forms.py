"""What a request binds its answers to: a JSON schema, a regular expression, a grammar, some texts. Not the binding.

TGI's and LMI's `grammar` (https://huggingface.co/docs/text-generation-inference/basic_tutorials/using_guidance),
OpenAI's `response_format`, vLLM's `structured_outputs` (https://docs.vllm.ai/en/latest/features/structured_outputs/).
What of them cannot be bound to, the engine says when it gets the request.
"""

from __future__ import annotations

import json
from typing import Any

from heavylift_runtime.engines.engine import Form
from heavylift_runtime.server.schemas.document import is_unicode, shown
from heavylift_runtime.server.schemas.fields import Fields

LONGEST = 65_536  # characters of a rule
MOST_TEXTS = 256
_GRAMMARS = ("json", "json_schema", "json_object", "regex", "grammar")
_FORMATS = ("text", "json_object", "json_schema")
_OUTPUTS = ("json", "json_object", "regex", "grammar", "choice")


def of_parameters(fields: Fields, able: bool) -> Form | None:
    """LMI's and TGI's; `able`: the engine binds answers. Faults are added to `fields.faults`."""
    if not able:
        fields.only("grammar", "guidance", allowed=(), why="answers are not bound to a grammar")
        return None
    name, given = fields.take("grammar", "guidance")
    if given is None:
        return None
    kind, inner = _typed(given, name, _GRAMMARS, fields)
    if inner is None:
        return None
    value = inner.value("value")
    if kind == "json_schema" and isinstance(value, dict) and "schema" in value:
        value = value["schema"]
    inner.rest()
    return _form("json" if kind == "json_schema" else kind, value, f"'value' of {name!r}", fields.faults)


def of_openai(fields: Fields, able: bool) -> Form | None:
    """OpenAI's and vLLM's; at most one of them."""
    if not able:
        fields.only("response_format", allowed=({"type": "text"},), why="answers are not bound to a form")
        fields.only("structured_outputs", allowed=(), why="answers are not bound to a form")
        return None
    forms = [form for form in (_response_format(fields), _structured_outputs(fields)) if form is not None]
    if len(forms) > 1:
        fields.faults.append("'response_format' and 'structured_outputs' are two forms of one answer: give one")
    return forms[0] if forms else None


def _response_format(fields: Fields) -> Form | None:
    given = fields.value("response_format")
    if given is None:
        return None
    kind, inner = _typed(given, "response_format", _FORMATS, fields)
    if inner is None or kind == "text":
        return None
    about = inner.value("json_schema")
    inner.rest()
    schema = about.get("schema") if isinstance(about, dict) else None
    kind = "json" if kind == "json_schema" else kind
    return _form(kind, schema, "'schema' of 'response_format.json_schema'", fields.faults)


def _structured_outputs(fields: Fields) -> Form | None:
    given = fields.value("structured_outputs")
    if given is None:
        return None
    asked = [name for name in given if name in _OUTPUTS] if isinstance(given, dict) else []
    if not isinstance(given, dict) or len(asked) != 1 or len(given) != 1:
        fields.faults.append(f"'structured_outputs' must be an object with one of {', '.join(_OUTPUTS)}")
        return None
    (kind,) = asked
    if kind == "json_object" and given[kind] is not True:
        fields.faults.append(f"'json_object' of 'structured_outputs' must be true: got {shown(given[kind])}")
        return None
    return _form(kind, given[kind], f"{kind!r} of 'structured_outputs'", fields.faults)


def _typed(given: Any, name: str, kinds: tuple[str, ...], fields: Fields) -> tuple[str, Fields | None]:
    """An object's `type`, and its other members."""
    if not isinstance(given, dict) or given.get("type") not in kinds:
        got = shown(given.get("type")) if isinstance(given, dict) else shown(given)
        fields.faults.append(f"{name!r} must be an object whose 'type' is {', '.join(kinds)}: got {got}")
        return "", None
    inner = Fields(given, f"member of {name}", fields.faults)
    return str(inner.value("type")), inner


def _form(kind: str, value: Any, what: str, faults: list[str]) -> Form | None:
    if kind == "json_object":
        return Form("json_object")
    if kind == "json":
        text = _schema(value)
        if text is not None and len(text) <= LONGEST:
            return Form("json_schema", text)
        faults.append(f"{what} must be a JSON schema, an object of at most {LONGEST} characters: got {shown(value)}")
        return None
    if kind == "choice":
        texts = value if isinstance(value, list) else []
        if 1 <= len(texts) <= MOST_TEXTS and all(_is_rule(text) for text in texts):
            return Form("choice", json.dumps(texts))
        faults.append(f"{what} must be 1 to {MOST_TEXTS} texts, none of them empty: got {shown(value)}")
        return None
    if _is_rule(value):
        return Form("regex" if kind == "regex" else "grammar", value)
    faults.append(f"{what} must be a text of 1 to {LONGEST} characters: got {shown(value)}")
    return None


def _schema(value: Any) -> str | None:
    """An object, or a text with one, as text."""
    try:
        schema = json.loads(value) if isinstance(value, str) else value
        return json.dumps(schema) if isinstance(schema, dict) else None
    except (ValueError, RecursionError):
        return None


def _is_rule(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST and is_unicode(value)
