"""A request for text as a value: JSON body in, Invocation or a precise refusal out. Not HTTP.

What this version does not do is refused by name, never ignored. Names and meanings are LMI's (djl-serving, LMI schema).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from heavylift_runtime.server.refused import Refused

MAX_ROWS = 256  # prompts in one request
MAX_NEW_TOKENS = 1024

_MEMBERS = ("inputs", "parameters", "stream")
# Parameters of LMI that greedy decoding answers only at these values.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "temperature": (0, 1),
    "top_p": (1,),
    "num_beams": (1,),
    "n": (1,),
    "best_of": (1,),
    "repetition_penalty": (1,),
    "return_full_text": (False,),
    "decoder_input_details": (False,),
}
_MOST_FAULTS = 20  # the nearest names of a million keys would hold everybody up
_PARAMETERS = ("max_new_tokens", "details", *_FIXED)


@dataclass(frozen=True)
class Invocation:
    """What a client asks: its prompts, the most tokens for each answer, and whether it wants details."""

    prompts: tuple[str, ...]
    max_new_tokens: int
    details: bool


def read_invocation(body: bytes, default_max_new_tokens: int) -> Invocation:
    """The invocation in a JSON body; raises Refused (400) with every fault in one sentence."""
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(400, f"the body is not JSON: {reason}") from error
    if not isinstance(document, dict):
        raise Refused(400, f'the body must be a JSON object like {{"inputs": "…"}}: got {_kind(document)}')
    unknown = (name for name in document if name not in _MEMBERS)
    faults = [_unknown(name, _MEMBERS, "member") for name in itertools.islice(unknown, _MOST_FAULTS)]
    if document.get("stream", False) is not False:
        faults.append("'stream' must be false: this version answers in one piece")
    parameters = document.get("parameters", {})
    if isinstance(parameters, dict):
        faults += _parameter_faults(parameters)
    else:
        faults.append(f"'parameters' must be an object: got {_kind(parameters)}")
    prompts = _prompts(document, faults)
    if faults:
        raise Refused(400, "; ".join(faults))
    return Invocation(
        prompts, parameters.get("max_new_tokens", default_max_new_tokens), parameters.get("details", False)
    )


def _prompts(document: Mapping[str, Any], faults: list[str]) -> tuple[str, ...]:
    if "inputs" not in document:
        faults.append("'inputs' is missing: give a text or a list of texts")
        return ()
    inputs = document["inputs"]
    if not isinstance(inputs, str | list):
        faults.append(f"'inputs' must be a text or a list of texts: got {_kind(inputs)}")
        return ()
    rows = [inputs] if isinstance(inputs, str) else inputs
    if not rows:
        faults.append("'inputs' is an empty list: give at least one text")
    if len(rows) > MAX_ROWS:
        faults.append(f"'inputs' has {len(rows)} texts: at most {MAX_ROWS} in one request")
        return ()
    for index, row in enumerate(rows):
        name = "'inputs'" if isinstance(inputs, str) else f"inputs[{index}]"
        if not isinstance(row, str):
            faults.append(f"{name} must be a text: got {_kind(row)}")
        elif not row:
            faults.append(f"{name} is empty")
        elif not _is_unicode(row):
            faults.append(f"{name} holds half of a surrogate pair, which is no Unicode text")
    return tuple(rows)


def _parameter_faults(parameters: Mapping[str, Any]) -> list[str]:
    faults = []
    for name, value in itertools.islice(parameters.items(), len(_PARAMETERS) + _MOST_FAULTS):
        if name == "max_new_tokens":
            if type(value) is not int or not 1 <= value <= MAX_NEW_TOKENS:
                faults.append(
                    f"'max_new_tokens' must be a whole number from 1 to {MAX_NEW_TOKENS}: got {_shown(value)}"
                )
        elif name == "details":
            if not isinstance(value, bool):
                faults.append(f"'details' must be true or false: got {_shown(value)}")
        elif name in _FIXED:
            allowed = _FIXED[name]
            if not any(_same(value, each) for each in allowed):
                words = " or ".join(json.dumps(each) for each in allowed)
                faults.append(f"{name!r} must be {words}: this version decodes greedily, got {_shown(value)}")
        else:
            faults.append(_unknown(name, _PARAMETERS, "parameter"))
    return faults


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(value: object, allowed: object) -> bool:
    """Equal, and both numbers or both booleans: in Python, 0 == False."""
    return isinstance(value, bool) is isinstance(allowed, bool) and value == allowed


def _unknown(name: str, known: tuple[str, ...], what: str) -> str:
    near = get_close_matches(name[:80], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
    return f"unknown {what} {_shown(name)}: {hint}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}[
        type(value)
    ]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
