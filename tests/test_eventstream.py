"""SageMaker's event stream: any cut of its bytes gives the same parts, botocore reads the same, and damage is told."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.benchmark.eventstream import Events
from heavylift.benchmark.failure import InvocationFailed
from heavylift.local.plugin import eventstream

PARTS = [b'{"token": {"text": "a"}}\n', "früh".encode()[:3], "früh".encode()[3:], b"x" * 5000, b"\x00\xff"]
STREAM = b"".join(map(eventstream.part, PARTS))


def read(*chunks: bytes) -> list[bytes]:
    events = Events()
    found = [part for chunk in chunks for part in events.parts(chunk)]
    events.end()
    return found


def test_every_cut_in_two_gives_the_same_parts() -> None:
    for at in range(len(STREAM) + 1):
        assert read(STREAM[:at], STREAM[at:]) == PARTS


def test_byte_by_byte_and_all_at_once_are_the_same() -> None:
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == PARTS == read(STREAM)


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_what_botocore_reads_is_what_is_read_here(parts: list[bytes], dice: random.Random) -> None:
    whole = b"".join(map(eventstream.part, parts))
    cuts = sorted(dice.randrange(len(whole) + 1) for _ in range(5))
    theirs = EventStreamBuffer()
    theirs.add_data(whole)

    found = read(*(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)))

    assert found == [event.payload for event in theirs] == parts


def test_one_wrong_bit_anywhere_is_told_and_never_a_part() -> None:
    frame = eventstream.part(b"hello")
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvocationFailed) as caught:
            read(bytes(damaged))
        assert caught.value.kind == "stream"


def test_a_stream_that_ends_within_a_message_is_broken() -> None:
    for at in range(1, len(STREAM)):
        try:
            found = read(STREAM[:at])
        except InvocationFailed as error:
            assert "into a message" in error.message
        else:
            assert b"".join(map(eventstream.part, found)) == STREAM[:at], "it ends between two messages"


def message(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack("!I", zlib.crc32(body))


def header(name: bytes, kind: int, value: bytes) -> bytes:
    sized = struct.pack("!H", len(value)) + value if kind in (6, 7) else value
    return bytes([len(name)]) + name + bytes([kind]) + sized


EVENT = header(b":message-type", 7, b"event") + header(b":event-type", 7, b"PayloadPart")


def test_headers_of_every_type_are_read_over() -> None:
    others = [(0, b""), (1, b""), (2, b"\1"), (3, b"12"), (4, b"1234"), (5, b"12345678"), (6, b"abc"), (8, b"8" * 8)]
    headers = EVENT + b"".join(header(b"h%d" % kind, kind, value) for kind, value in [*others, (9, b"u" * 16)])

    assert read(message(headers, b"x")) == [b"x"]


@pytest.mark.parametrize(
    ("headers", "payload", "told"),
    [
        (header(b":message-type", 7, b"exception") + header(b":exception-type", 7, b"ModelStreamError"),
         b'{"Message": "out of memory", "ErrorCode": "x"}', "ModelStreamError: {'Message': 'out of memory'"),
        (header(b":message-type", 7, b"error") + header(b":error-code", 7, b"5") + header(b":error-message", 7, b"no"),
         b"", "5: no"),
        (header(b":message-type", 7, b"event") + header(b":event-type", 7, b"Other"), b"y", "Other: b'y'"),
        (b"", b"", "an event without a type"),
        (header(b"h", 12, b""), b"", "headers that cannot be read"),
        (b"\xff", b"", "headers that cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_part_is_a_failure_of_the_stream(headers: bytes, payload: bytes, told: str) -> None:
    with pytest.raises(InvocationFailed) as caught:
        read(message(headers, payload))

    assert caught.value.kind == "stream" and told in caught.value.message


@pytest.mark.parametrize("total", [0, 15, 2**31])
def test_an_impossible_length_is_told_before_it_is_waited_for(total: int) -> None:
    prelude = struct.pack("!II", total, 0)

    with pytest.raises(InvocationFailed):
        read(prelude + struct.pack("!I", zlib.crc32(prelude)))
