"""Any bytes are a request or a refusal with a sentence: never another exception, and never for long."""

from __future__ import annotations

import json
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.server.prompts import Prompts, compiled
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import Defaults, Misread, document, read
from heavylift_runtime.server.schemas.choices import MAX_ROWS
from heavylift_runtime.server.schemas.reading import PATHS
from tests.schema_pieces import finished, streamed

MEMBERS = (
    "inputs parameters stream prompt messages model n best_of stop seed logprobs top_logprobs max_tokens temperature "
    "top_p top_k stream_options batch_size padding adapters echo suffix logit_bias tools chat_template_kwargs role"
    " content"
).split()
PARAMETERS = (
    "max_new_tokens max_seq_len do_sample temperature top_k top_p seed random_seed stop stop_sequences details n "
    "best_of return_full_text top_n_tokens logprobs beam_width truncate watermark adapter_id typical_p min_p "
    "repetition_penalty"
).split()
TEMPLATE = compiled("{% for m in messages %}{{ m.content }}{% endfor %}")
DEFAULTS = (
    Defaults(prompts=Prompts(TEMPLATE)),
    Defaults(lmi_compat="0.23", fastertransformer=True),
    Defaults(lmi_compat="latest", adapters=frozenset({"a"})),
    Defaults(tgi_compat=True),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, -1, 0.5, 10**30, 2**31, 2**64, "a", "user", "\ud800", "text", [], {}, ["a"], [1, 2]])
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*MEMBERS, *PARAMETERS, "type", "text", "include_usage"]) | st.text(), inner)
    ),
    max_leaves=12,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.text(max_size=9) | st.lists(st.text(max_size=3), max_size=3),
        "prompt": st.text(max_size=9) | st.lists(st.integers(0, 9), max_size=3),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=5)}), max_size=3
        ),
        "parameters": st.dictionaries(st.sampled_from(PARAMETERS), SCALARS, max_size=5),
        "stream": st.booleans(),
        "n": st.integers(0, 5),
        "temperature": st.floats(-1, 3),
    },
)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=6).map(json.dumps).map(str.encode)
    | LIKELY.map(json.dumps).map(str.encode)
)


def tell(path: str, headers: dict[str, str], body: bytes, defaults: Defaults) -> str:
    """Read and, where it is a request, answer it: whole or as a stream. Says which of these it was."""
    try:
        exchange = read(path, headers, body, defaults)
    except Misread as misread:
        assert 400 <= misread.code < 500 and misread.answer.status == misread.code
        assert misread.sentence and len(misread.sentence) < 30_000
        assert json.loads(misread.answer.body)
        return "refused"
    assert 1 <= len(exchange.requests) <= MAX_ROWS
    for request in exchange.requests:
        assert request.prompt and sound(request.sampling, defaults)
        assert not isinstance(request.prompt, str) or request.prompt.encode()
    if exchange.stream:
        assert streamed(exchange) and exchange.broken(424, "no")
        return "streamed"
    assert json.loads(exchange.reply([finished() for _ in exchange.requests]))
    assert exchange.failure(424, "no").status >= 400
    return "whole"


def sound(sampling: Sampling, defaults: Defaults) -> bool:
    """Every number is one that an engine can compute with."""
    numbers = (sampling.temperature, sampling.top_p, sampling.min_p, sampling.repetition_penalty)
    return (
        all(math.isfinite(number) and number >= 0 for number in numbers)
        and 0 < sampling.top_p <= 1
        and sampling.repetition_penalty > 0
        and 1 <= sampling.max_new_tokens <= defaults.most_new_tokens
        and sampling.top_k >= 0
        and (sampling.seed is None or 0 <= sampling.seed < 2**64)
    )


@pytest.mark.slow
@settings(max_examples=500)
@given(path=st.sampled_from(PATHS), body=BODIES, defaults=st.sampled_from(DEFAULTS))
def test_any_body_is_a_request_or_a_refusal(path: str, body: bytes, defaults: Defaults) -> None:
    tell(path, {}, body, defaults)


@given(
    path=st.sampled_from(PATHS),
    kind=st.text(max_size=30) | st.sampled_from(["text/plain", "application/json; charset=latin-1", ""]),
    accept=st.text(max_size=30),
    body=st.sampled_from([b'{"inputs": "a"}', b"a", b"\xff", b""]),
    defaults=st.sampled_from(DEFAULTS),
)
def test_any_header_is_a_request_or_a_refusal(
    path: str, kind: str, accept: str, body: bytes, defaults: Defaults
) -> None:
    tell(path, {"content-type": kind, "accept": accept}, body, defaults)


def test_the_fuzz_reaches_every_ending() -> None:
    """That which is likely is often right: else the other tests prove nothing."""
    endings: set[tuple[str, str]] = set()
    draw = random.Random(1)
    for _ in range(3000):
        path = draw.choice(PATHS)
        chat = {"messages": [{"role": "user", "content": "a"}]}
        body: dict[str, Any] = draw.choice([{"inputs": "a"}, {"prompt": "a"}, chat])
        body |= {"stream": draw.choice([True, False]), **draw.choice([{}, {"temperature": 1}, {"unknown": 1}])}
        endings.add((path, tell(path, {}, json.dumps(body).encode(), draw.choice(DEFAULTS))))

    assert endings == {(path, ending) for path in PATHS for ending in ("refused", "streamed", "whole")} - {
        ("/generate_stream", "whole")
    }


SEEDS = (
    b'{"inputs": ["a", "b"], "parameters": {"details": true, "temperature": 0.7, "stop": ["x"]}, "padding": true}',
    b'{"inputs": "a\xc3\xa9\\u00e9", "stream": true, "parameters": {"max_new_tokens": 12, "top_n_tokens": 2}}',
    b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "logprobs": true, "max_tokens": 5}',
    b'{"prompt": [[1, 2], [3]], "n": 2, "stream": true, "stream_options": {"include_usage": true}, "model": "a"}',
)


def test_ten_thousand_mutilated_requests_are_requests_or_refusals() -> None:
    draw = random.Random(20261121)
    endings: dict[str, int] = {}
    for _ in range(10_000):
        body = bytearray(draw.choice(SEEDS))
        for _ in range(draw.randint(1, 2)):
            at = draw.randrange(len(body) + 1)
            cut = draw.choice([0, 0, 1, 3, 10])
            body[at : at + cut] = draw.choice(
                [b"", b'"', b"}", b"[", b"9", b"-", b"\xff", b"\\", bytes([draw.randrange(256)])]
            )
        ending = tell(draw.choice(PATHS), {}, bytes(body), draw.choice(DEFAULTS))
        endings[ending] = endings.get(ending, 0) + 1

    assert endings["refused"] > 5000 and min(endings.values()) > 10


BRACKETS = b'{"a":[' + b"[]," * 300_000 + b"[]]}"
NAMES = b"{" + b",".join(b'"k%d":1' % number for number in range(70_000)) + b"}"
TEXTS = b'{"inputs":["' + b'a","' * 600_000 + b'a"]}'


@pytest.mark.parametrize("body", [BRACKETS, NAMES, TEXTS], ids=["lists", "names", "texts"])
def test_a_body_of_millions_of_values_is_refused_before_it_is_read(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", None)

    with pytest.raises(Refused, match="the body has more than 262144 values, or 65536 members of objects"):
        document.read_document(body, "{}")


@pytest.mark.parametrize("text", ['a, "b": [{}]' * 200_000, '\\"' * 300_000, "\\," * 300_000])
def test_a_large_text_may_hold_what_would_be_values_outside_of_it(text: str) -> None:
    assert document.read_document(json.dumps({"inputs": text}).encode(), "{}") == {"inputs": text}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/invocations", "/generate", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 6_000_000,
        b'{"a":' * 1_000_000,
        b'{"inputs": "' + b"\\ud800" * 1_000_000 + b'"}',
        b'{"inputs": [' + b"1," * 3_000_000 + b"1]}",
        b'{"prompt": [' + b"1," * 3_000_000 + b"1]}",
        b'{"prompt": [' + b"[1]," * 1_500_000 + b"[1]]}",
        b'{"messages": [' + b"{}," * 2_000_000 + b"{}]}",
        b'{"messages": [{"role": "user", "content": [' + b"{}," * 2_000_000 + b"{}]}]}",
        b'{"messages": [{"role": "user", "content": "a", "tool_calls": [' + b"[]," * 2_000_000 + b"[]]}]}",
        b'{"inputs": "a", "parameters": {' + b",".join(b'"a%d":1' % number for number in range(500_000)) + b"}}",
        b'{"inputs": "a", "parameters": {"stop": [' + b'"a",' * 1_500_000 + b'"a"]}}',
        b'{"inputs": "a", "parameters": {"seed": ' + b"1" * 6_000_000 + b"}}",
    ],
    ids=range(12),
)
def test_six_megabytes_of_malice_are_read_soon(path: str, body: bytes) -> None:
    begun = time.process_time()

    tell(path, {}, body, DEFAULTS[0])

    assert time.process_time() - begun < 10
