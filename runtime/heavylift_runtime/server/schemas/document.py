"""The JSON object in a request's body. Not its meaning: what its members must be is fields.py's and each schema's."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from heavylift_runtime.server.refused import Refused

LARGE = 2**18  # bytes
MOST_VALUES, MOST_MEMBERS = 2**18, 2**16
"""Of a large body, in all its lists and objects together: more than any request needs, of tokens or of messages.
Python's reader makes an object of each, and while it reads nothing else runs in the process, in whatever thread."""


def read_document(body: bytes, example: str) -> dict[str, Any]:
    """The object; Refused (400) for what is no UTF-8, no JSON (NaN is none), or no object like `example`.

    A byte order mark before it, as .NET's clients write, may be ignored (RFC 8259, section 8.1).
    """
    try:
        text = body.decode("utf-8-sig")
        if len(body) >= LARGE:
            _count(body)
        with _uncollected(len(body)):
            document = _DECODE(text)
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise Refused(400, "the body is not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refused(400, f"the body must be a JSON object like {example}: got {kind(document)}")
    return document


def _count(body: bytes) -> None:
    """Refused (400) for more than there may be; found by what stands between the texts, without reading it."""
    if _values(body) <= MOST_VALUES and body.count(b":") <= MOST_MEMBERS:
        return  # with what is in the texts
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') <= 2 * (MOST_VALUES + MOST_MEMBERS):
        outside = b"".join(bare.split(b'"')[::2])
        if _values(outside) <= MOST_VALUES and outside.count(b":") <= MOST_MEMBERS:
            return
    raise Refused(400, f"the body has more than {MOST_VALUES} values, or {MOST_MEMBERS} members of objects")


def _values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


@contextmanager
def _uncollected(size: int) -> Iterator[None]:
    """For a large body, without the garbage collector, which would look at millions of new values again and again and
    find none: six megabytes of lists take a quarter of the time."""
    collects = size >= LARGE and gc.isenabled()
    if collects:
        gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


_DECODE = json.JSONDecoder(parse_constant=_no_number).decode  # json.loads would make one each time


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}[
        type(value)
    ]


def shown(value: object) -> str:
    """A JSON value in at most 60 characters."""
    if isinstance(value, list | dict) and value:
        return kind(value)
    text = json.dumps(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def is_unicode(text: str) -> bool:
    """No half of a surrogate pair is in it, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dump(document: object) -> bytes:
    """JSON on one line, UTF-8; in ASCII where a sentence quotes half of a surrogate pair, which UTF-8 cannot hold.

    Three characters that JSON allows are escaped all the same: Python's splitlines, and so httpx's, take them for the
    end of a line.
    """
    text = _ENCODE(document)
    if text.isascii():
        return text.encode()
    try:
        return text.translate(_LINE_ENDS).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # json.dumps would make one each time
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
