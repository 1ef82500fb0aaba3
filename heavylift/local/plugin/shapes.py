"""Requests checked against botocore's own service model: type, required, enum, range, length, pattern.

Not rules between members (one container, one variant): those are where they are needed.
"""

from __future__ import annotations

import re
from typing import Any

import botocore.session
import botocore.validate

from .errors import ApiError, invalid


class Shapes:
    """The request shapes of one service, such as "sagemaker"."""

    def __init__(self, service: str) -> None:
        self._model = botocore.session.get_session().get_service_model(service)

    def check(self, operation: str, parameters: dict[str, Any]) -> None:
        """Raise ValidationException that lists every fault; UnknownOperationException for a foreign operation."""
        shape = self._input(operation)
        report = botocore.validate.ParamValidator().validate(parameters, shape)
        faults = [report.generate_report()] if report.has_errors() else _faults(shape, parameters, operation)
        if faults:
            raise invalid(f"{len(faults)} fault(s) in {operation}: " + "; ".join(faults))

    def coerce(self, operation: str, properties: dict[str, Any]) -> dict[str, Any]:
        """CloudFormation's properties as the operation's parameters: it writes numbers and booleans as strings."""
        coerced: dict[str, Any] = _coerce(self._input(operation), properties, operation)
        return coerced

    def _input(self, operation: str) -> Any:
        if operation not in self._model.operation_names:
            raise ApiError("UnknownOperationException", f"{self._model.service_name} has no operation {operation!r}")
        return self._model.operation_model(operation).input_shape


def _faults(shape: Any, value: Any, path: str) -> list[str]:
    """What botocore's validator leaves out: unknown members, enums, maxima and patterns."""
    kind, rule = shape.type_name, shape.metadata
    if kind == "structure":
        unknown = [f"{path} has no member {name!r}" for name in value if name not in shape.members]
        known = (
            (shape.members[name], child, f"{path}.{name}") for name, child in value.items() if name in shape.members
        )
        return unknown + [fault for member in known for fault in _faults(*member)]
    faults = []
    if kind in ("list", "map", "string") and len(value) > rule.get("max", len(value)):
        faults.append(f"{path} has length {len(value)}; at most {rule['max']}")
    if kind == "list":
        return faults + [f for i, item in enumerate(value) for f in _faults(shape.member, item, f"{path}[{i}]")]
    if kind == "map":
        pairs = ((part, at) for key, item in value.items() for part, at in ((shape.key, key), (shape.value, item)))
        return faults + [fault for part, item in pairs for fault in _faults(part, item, f"{path}[{item!r}]")]
    if kind == "string":
        if shape.enum and value not in shape.enum:
            faults.append(f"{path} is {value!r}; one of {', '.join(shape.enum)}")
        if not _matches(rule.get("pattern"), value):
            faults.append(f"{path} is {value!r}; it must match {rule['pattern']}")
    elif kind in ("integer", "long", "float", "double"):
        low, high = rule.get("min", value), rule.get("max", value)
        if not low <= value <= high:
            faults.append(f"{path} is {value}; from {rule.get('min', '-inf')} to {rule.get('max', 'inf')}")
    return faults


def _matches(pattern: str | None, value: str) -> bool:
    """Whether the whole value matches; true for a pattern that only Java can read (`\\p{L}`)."""
    if pattern is None:
        return True
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True


def _coerce(shape: Any, value: Any, path: str) -> Any:
    kind = shape.type_name
    try:
        if kind == "structure":
            known = shape.members
            return {k: _coerce(known[k], v, f"{path}.{k}") if k in known else v for k, v in value.items()}
        if kind == "list":
            return [_coerce(shape.member, item, path) for item in value]
        if kind == "map":
            return {key: _coerce(shape.value, item, f"{path}.{key}") for key, item in value.items()}
        if kind in ("integer", "long"):
            return int(value)
        if kind in ("float", "double"):
            return float(value)
        if kind == "boolean" and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        return value if kind != "string" or isinstance(value, str) else str(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise invalid(f"{path} is {value!r}; it must be a {kind}") from None
