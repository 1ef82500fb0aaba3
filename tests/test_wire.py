"""Messages on the channel: whole however they are cut, and a peer that is broken. Not what they mean."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.wire import Channel, Frames, HungUp, Message

TEXTS = st.text(st.characters(), max_size=20)  # halves of surrogate pairs among them
HEADERS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.lists(TEXTS, max_size=3) | st.none(), max_size=4)
MESSAGES = st.lists(st.builds(Message, HEADERS, st.binary(max_size=30)), min_size=1, max_size=5)


@given(MESSAGES, st.data())
def test_messages_arrive_whole_and_in_order_however_they_are_cut(messages: list[Message], data: st.DataObject) -> None:
    sent = b"".join(message.encode() for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    heard: list[Message] = []
    frames = Frames(heard.append, pytest.fail)

    for first, last in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        frames.data_received(sent[first:last])

    assert heard == messages


@given(MESSAGES)
def test_a_rank_receives_what_was_sent_and_then_that_the_server_has_gone(messages: list[Message]) -> None:
    ours, theirs = socket.socketpair()
    server, rank = Channel(ours), Channel(theirs)
    for message in messages:
        server.send(*message)
    server.close()

    assert [rank.receive() for _ in messages] == messages
    with pytest.raises(HungUp):
        rank.receive()
    rank.close()


@pytest.mark.parametrize("header", [b'{"type":"pieces"}{}', b"{", b"", b"\xff"])
def test_a_message_that_is_no_json_breaks_the_channel_once_and_nothing_after_it_is_heard(header: bytes) -> None:
    sound = Message({"type": "pieces"}).encode()
    heard: list[Message] = []
    broken: list[Exception] = []
    frames = Frames(heard.append, broken.append)

    frames.data_received(sound + struct.pack(">II", len(header), 0) + header + sound)

    assert len(heard) == len(broken) == 1
