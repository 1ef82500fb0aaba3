"""What hostile, or only broken, clients send: requests with something odd in them, and bytes that are no request.

Not a client and no test. All of it comes from the dice, so that a failure comes again.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from heavylift_runtime.server.schemas import Defaults, Misread, read
from heavylift_runtime.server.schemas.reading import CHAT, COMPLETIONS, INVOCATIONS, PATHS

ROUTES = (
    *("/ping", "/metrics", "/v1/models", "/v1/models/x", "/models", "/models/x/invoke", "/adapters", "/predictions/x"),
    *("/execution-parameters", "/none", "//", "/invocations/", "/%00", "/invocations?a=%ff", "/..//etc/passwd"),
)
METHODS = ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "POST")
VALID: tuple[dict[str, Any], ...] = (
    {"inputs": "a b c", "parameters": {"max_new_tokens": 3, "details": True, "temperature": 0.7, "seed": 1}},
    {"inputs": ["a", "b c"], "parameters": {"stop": ["x"], "top_k": 5, "do_sample": True}, "stream": False},
    {"inputs": "a b", "stream": True},
    {"model": "model", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": True},
    {"model": "model", "prompt": ["a", "b"], "n": 2, "logprobs": 1, "max_tokens": 2},
)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 10**30, 2**63, "", " ", "a", "\ud800", "\x00", "é" * 300,
    [], [[]], {}, {"a": {}}, ["a", 1], [None], "NaN", "true", list(range(300)), {"role": "user"},
    [{"role": "x", "content": 3}],
)  # fmt: skip
LITERALS = (b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1" * 400, b"1" * 5000, b"0x10", b"01", b"1.", b"'a'", b"nul")
"""What Python's reader of JSON takes for numbers, or nobody's does."""
BROKEN = (b"[" * 20_000, b'{"inputs":' * 5_000, b"\xff\xfe{}", b"1e999", b"NaN", b'"\\ud800"', b"", b"{}x", b"null")
TYPES = (
    *("application/json; charset=latin-1", "text/plain", "text/csv", "", ";", "multipart/form-data"),
    *("application/octet-stream", "text/event-stream"),
)
ACCEPTS = ("*/*", "application/json", "text/event-stream", "application/jsonlines", "image/png", "", ",,;q=")


def mutated(dice: random.Random, value: Any, depth: int = 0) -> Any:
    """A value with something odd in it."""
    if depth > 4 or dice.random() < 0.25:
        return dice.choice(ODD)
    if isinstance(value, dict) and value:
        changed = dict(value)
        name = dice.choice(list(changed))
        match dice.randrange(4):
            case 0:
                del changed[name]
            case 1:
                changed[dice.choice([name + "s", name.upper(), "", "inputs", "stream", "\ud800", "parameters"])] = 1
            case _:
                changed[name] = mutated(dice, changed[name], depth + 1)
        return changed
    if isinstance(value, list) and value:
        changed_list = list(value)
        changed_list[dice.randrange(len(value))] = mutated(dice, value[0], depth + 1)
        return changed_list
    return dice.choice(ODD)


def content(dice: random.Random) -> bytes:
    """A body: a valid one, one with something odd, or broken bytes."""
    document = dice.choice(VALID)
    for _ in range(dice.randrange(4)):
        document = mutated(dice, document)
    data = json.dumps(document).encode()
    match dice.randrange(8):
        case 0:
            return data[: dice.randrange(len(data) + 1)]
        case 1:
            at = dice.randrange(len(data) + 1)
            return data[:at] + dice.randbytes(dice.randrange(1, 9)) + data[at:]
        case 2:
            return dice.randbytes(dice.randrange(200))
        case 3:
            return dice.choice(BROKEN)
    return data


def seldom(dice: random.Random, usual: str, odd: Sequence[str]) -> str:
    """The usual one, but for one time in twenty."""
    return dice.choice(odd) if dice.random() < 0.05 else usual


@cache
def parameters() -> tuple[tuple[str, dict[str, Any], str, str], ...]:
    """Every parameter that a schema knows: path, a sound document, which object of it the parameter is in, its name."""

    def known(path: str, document: dict[str, Any], inside: str) -> list[tuple[str, dict[str, Any], str, str]]:
        unknown = {**document, inside: {"zzzz": 1}} if inside else {**document, "zzzz": 1}
        try:
            read(path, {}, json.dumps(unknown).encode(), Defaults())
        except Misread as misread:
            listed = re.search(r'"zzzz": use ([^;]*)', misread.sentence)
            assert listed is not None, misread.sentence
            return [(path, document, inside, name) for name in listed[1].split(", ")]
        raise AssertionError("an unknown parameter is refused")

    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    return (
        *known(INVOCATIONS, {"inputs": "a"}, ""),
        *known(INVOCATIONS, {"inputs": "a"}, "parameters"),
        *known(CHAT, chat, ""),
        *known(COMPLETIONS, {"prompt": "a", "max_tokens": 2}, ""),
    )


def parameter(dice: random.Random) -> tuple[str, bytes]:
    """A path, and a body in which one known parameter has an odd value, or one that is no JSON."""
    path, document, inside, name = dice.choice(parameters())
    mark = "here"
    changed = {**document, inside: {name: mark}} if inside else {**document, name: mark}
    value = dice.choice(LITERALS) if dice.random() < 0.25 else json.dumps(dice.choice(ODD)).encode()
    return path, json.dumps(changed).encode().replace(b'"here"', value)


@dataclass(frozen=True)
class Hostile:
    """What one connection carries. `parts` are written one after another; `wants`: replies that must come, None where
    the server may hang up; `cut`: bytes after which the client resets the connection, None where it reads all."""

    kind: str
    parts: tuple[bytes, ...]
    wants: int | None = None
    cut: int | None = None
    ends: bool = False
    """The client closes its half behind the last part."""


def request(dice: random.Random, *, last: bool = True) -> bytes:
    """One whole request, in sound framing, with something odd in it most of the time."""
    path, body = parameter(dice) if dice.random() < 0.4 else (seldom(dice, dice.choice(PATHS), ROUTES), content(dice))
    kind, wish = seldom(dice, "application/json", TYPES), dice.choice(ACCEPTS) if dice.random() < 0.2 else "*/*"
    fields = [b"host: x", b"content-type: " + kind.encode(), b"accept: " + wish.encode()]
    if dice.random() < 0.15:
        odd = [b"route=/generate", b"a=b;;=", b"\xff\xff", b"", b"route=", b"heavylift-times=1"]
        fields.append(b"x-amzn-sagemaker-custom-attributes: " + dice.choice(odd))
    if dice.random() < 0.1:
        fields.append(b"x-amzn-sagemaker-session-id: " + dice.choice([b"NEW_SESSION", b"?", b""]))
    if dice.random() < 0.05:
        fields.append(b"cookie: " + b"c" * dice.choice([1, 4000, 40_000]))
    if last:
        fields.append(b"connection: close")
    line = f"{seldom(dice, 'POST', METHODS)} {path} HTTP/1.1".encode()
    if dice.random() < 0.3:
        return b"\r\n".join([line, *fields, b"transfer-encoding: chunked", b"", chunked(dice, body)])
    return b"\r\n".join([line, *fields, b"content-length: %d" % len(body), b"", body])


def chunked(dice: random.Random, body: bytes) -> bytes:
    """The body in chunks, some with extensions, and perhaps a trailer."""
    said = b""
    while body:
        size = dice.randrange(1, max(2, len(body)))
        said += b"%x%b\r\n%b\r\n" % (size, dice.choice([b"", b"", b";a=b"]), body[:size])
        body = body[size:]
    return said + b"0\r\n" + dice.choice([b"", b"x-sum: 1\r\n"]) + b"\r\n"


def _whole(dice: random.Random) -> Hostile:
    return Hostile("whole", (request(dice),), wants=1)


def _pipelined(dice: random.Random) -> Hostile:
    count = dice.randrange(2, 7)
    return Hostile("pipelined", (b"".join(request(dice, last=n == count) for n in range(1, count + 1)),), wants=count)


def _stream(dice: random.Random) -> Hostile:
    wish = dice.choice([b"text/event-stream", b"application/jsonlines", b"*/*"])
    body = json.dumps({"inputs": "write in words: 298", "stream": True, "parameters": {"max_new_tokens": 64}}).encode()
    head = b"POST /invocations HTTP/1.1\r\nhost: x\r\naccept: %b\r\ncontent-length: %d\r\n\r\n" % (wish, len(body))
    return Hostile("a stream that is cut", (head + body,), cut=dice.randrange(0, 900))


def _slow(dice: random.Random) -> Hostile:
    whole = request(dice)
    drops = tuple(whole[at : at + 3] for at in range(0, min(len(whole) - 1, 60), 3))
    return Hostile("half, in drops", drops, ends=True)


def _lie(dice: random.Random) -> Hostile:
    """A body that is longer or shorter than what its head says."""
    body = content(dice) or b"{}"
    line = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    if dice.random() < 0.5:
        size = max(0, len(body) + dice.choice([-1, 1, 7, -7, 9000]))
        return Hostile("a lie about a length", (line + b"content-length: %d\r\n\r\n%b" % (size, body),), ends=True)
    size = len(body) + dice.choice([-1, 1, 100])
    said = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (max(size, 1), body)
    return Hostile("a lie about a chunk", (line + said,), ends=True)


def _noise(dice: random.Random) -> Hostile:
    """A sound request with bytes changed, or no request at all."""
    whole = bytearray(request(dice))
    for _ in range(dice.randrange(1, 6)):
        whole[dice.randrange(min(len(whole), 200))] = dice.randrange(256)
    data = bytes(whole) if dice.random() < 0.7 else dice.randbytes(dice.randrange(1, 400))
    return Hostile("noise", (data,), ends=True)


def _wire(dice: random.Random) -> Hostile:
    return Hostile("a broken head", (wire(dice),), ends=True)


KINDS: tuple[tuple[Callable[[random.Random], Hostile], int], ...] = (
    (_whole, 40),
    (_pipelined, 25),
    (_stream, 4),
    (_slow, 1),
    (_lie, 8),
    (_noise, 12),
    (_wire, 10),
)


def hostile(dice: random.Random) -> Hostile:
    """One connection."""
    makers, weights = zip(*KINDS, strict=True)
    made: Hostile = dice.choices(makers, weights)[0](dice)
    return made


def wire(dice: random.Random) -> bytes:
    """A head that is broken, or too large, or has no end."""
    line = dice.choice(
        [
            b"POST /invocations HTTP/1.1",
            b"GET /ping HTTP/1.1",
            b"POST /invocations HTTP/9.9",
            b"\x16\x03\x01\x02",
            b"",
            b"GET",
        ]
    )
    fields = [b"host: x"]
    match dice.randrange(9):
        case 0:
            fields.append(b"x-long: " + b"a" * dice.choice([9_000, 70_000, 300_000]))
        case 1:
            fields += [b"x-%d: y" % number for number in range(dice.choice([10, 3_000]))]
        case 2:
            fields.append(b"transfer-encoding: chunked")
            bad = [b"zz\r\n", b"5\r\nab", b"ffffffffffffffff\r\n", b"-1\r\n", b"3\r\nabcde\r\n0\r\n\r\n", b"0\r\n"]
            return b"\r\n".join([line, *fields, b"", dice.choice(bad)])
        case 3:
            fields += [b"content-length: " + dice.choice([b"-5", b"x", b"5, 6", b"1e3", b"99999999999999999999", b""])]
        case 4:
            fields += [b"content-length: 5", b"transfer-encoding: chunked"]
        case 5:
            fields.append(dice.choice([b"no colon", b": none", b"a b: c", b"x: \x00", b" folded: y", b"host: two"]))
        case 6:
            fields.append(b"expect: 100-continue")
        case 7:
            return line + b"\r\n" + b"\r\n".join(fields)  # and never the end
        case _:
            fields += [b"content-type: application/json", b"content-length: 40"]
            return b"\r\n".join([line, *fields, b"", content(dice)[: dice.randrange(40)]])
    return b"\r\n".join([line, *fields, b"", content(dice)])
