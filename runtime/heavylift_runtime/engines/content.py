"""A client's call of a script: the properties and the named contents that its handler sees. Not HTTP: the server's.

A body has the key `data`; the fields of a form are further contents under their own names, as in LMI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message as Part
from email.parser import BytesHeaderParser
from urllib.parse import parse_qsl

_BATCHED = re.compile(r"batch_(size$|\d+\.)", re.IGNORECASE)  # what the server alone tells a script of a batch


@dataclass(frozen=True)
class Call:
    """One client's request."""

    properties: Mapping[str, str]
    """Its headers, names in small letters."""
    body: bytes


def properties_of(call: Call) -> dict[str, str]:
    """The headers, and SageMaker's custom attributes `k=v;k2=v2` one by one; a header wins over an attribute. Neither
    makes one request a batch."""
    pairs = (each.partition("=") for each in call.properties.get("x-amzn-sagemaker-custom-attributes", "").split(";"))
    given = {name.strip(): value.strip() for name, equals, value in pairs if equals}
    own = {name: value for name, value in given.items() if name.lower() not in call.properties}
    return {name: value for name, value in (own | dict(call.properties)).items() if not _BATCHED.match(name)}


def contents_of(call: Call) -> Iterator[tuple[str, bytes]]:
    """The contents by their keys; ValueError where a form is broken."""
    kind = call.properties.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        yield from _multipart(kind, call.body)
        return
    yield "data", call.body
    if kind.lower().startswith("application/x-www-form-urlencoded"):
        try:
            text = call.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the form is not UTF-8: {error.reason} at byte {error.start}") from error
        for key, value in parse_qsl(text, keep_blank_values=True):
            yield key, value.encode()


def _multipart(kind: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields of a form (RFC 7578)."""
    boundary = _header("Content-Type", kind).get_boundary()
    if not boundary:
        raise ValueError(f"a form's Content-Type must name its boundary: got {kind[:80]!r}")
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError("the form ends without its closing boundary")
    for part in parts[:-1]:
        head, found, data = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        name = BytesHeaderParser().parsebytes(head).get_param("name", header="content-disposition")
        if not found or not isinstance(name, str):
            raise ValueError("a field of the form has no name")
        yield name, data


def _header(name: str, value: str) -> Part:
    part = Part()
    part[name] = value
    return part
