"""LMI's handler contract in one process: batches, streams, asynchronous handlers, forms, the words of the channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from djl_python import Input, Output
from djl_python.torchserve import torchserve_handler
from heavylift_runtime.engines.content import Call, contents_of
from heavylift_runtime.engines.handler import Handler, HandlerFault
from heavylift_runtime.engines.script import Script
from heavylift_runtime.errors import LoadError
from heavylift_runtime.wire import Message


def call(body: bytes = b"{}", **properties: str) -> Call:
    return Call({name.replace("_", "-"): value for name, value in properties.items()}, body)


def module(**functions: Any) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(functions)
    return made


def test_a_batch_is_one_call_and_its_answers_keep_their_order() -> None:
    seen = []

    def handle(inputs: Input) -> Output:
        parts = inputs.get_batches()
        seen.append([each.get_property("tea") for each in (inputs, *parts)])
        outputs = Output()
        for index in reversed(range(len(parts))):
            outputs.add(parts[index].get_as_bytes() or b"", batch_index=index)
        return outputs

    answers = Handler(handle, {}).answer([call(b"a", tea="green"), call(b"b", tea="black"), call(b"c")])

    assert [answer.body for answer in answers] == [b"a", b"b", b"c"]
    assert seen == [[None, "green", "black", None]]


def test_no_request_of_a_batch_sees_or_sets_what_is_anothers_or_the_servers() -> None:
    seen: list[Any] = []

    def handle(inputs: Input) -> Output:
        outputs = Output()
        for index, each in enumerate(inputs.get_batches()):
            names = ("Content-Type", "tenant", "model_dir", "batch_style")
            seen.append([*(each.get_property(name) for name in names), each.is_batch()])
            outputs.add("", batch_index=index)
        return outputs

    attributes = "tenant=one;batch_1.tenant=one;batch_1.Content-Type=text/x;Batch_Size=3;Content-Type=a/b;model_dir=/x"
    first = Call({"content-type": "text/plain", "x-amzn-sagemaker-custom-attributes": attributes}, b"a")
    handler = Handler(handle, {"model_dir": "/m", "batch_size": "4", "batch_style": "new"})
    one = ["text/plain", "one", "/m", "new", False]

    handler.answer([first])
    handler.answer([first, call(b"b", content_type="application/json")])

    assert seen == [one, one, ["application/json", None, "/m", "new", False]]


def test_a_batch_answered_by_the_requests_own_keys_is_sound() -> None:
    def handle(inputs: Input) -> Output:
        outputs = Output()
        for key, value in inputs.get_content():
            outputs.add(value, key=key)
        return outputs

    assert [answer.body for answer in Handler(handle, {}).answer([call(b"a"), call(b"b")])] == [b"a", b"b"]


def test_an_answer_of_a_batch_may_have_its_own_content_type() -> None:
    def handle(inputs: Input) -> Output:
        output = (
            Output().add_property("content-type", "application/json").add_property("batch_1_Content-Type", "text/x")
        )
        return output.add([1], batch_index=0).add("two", batch_index=1)

    first, second = Handler(handle, {}).answer([call(b"a"), call(b"b")])

    assert (first.headers, second.headers) == ({"content-type": "application/json"}, {"content-type": "text/x"})


def test_each_answer_of_a_torchserve_batch_has_the_content_type_that_was_set_for_it(tmp_path: Path) -> None:
    def handle(data: list[dict[str, Any]] | None, context: Any) -> list[str]:
        if data is None:
            return []
        context.set_response_content_type(1, "text/x")
        return [row["body"].decode() for row in data]

    module = ModuleType("archived")
    module.__dict__["handle"] = handle
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"handler": "archived"}}')
    handler = Handler(torchserve_handler(module, str(tmp_path)), {})
    handler.warm_up()

    first, second = handler.answer([call(b"a"), call(b"b")])

    assert (first.headers, first.body) == ({"content-type": "text/plain; charset=utf-8"}, b"a")
    assert (second.headers, second.body) == ({"content-type": "text/x"}, b"b")


@pytest.mark.parametrize(
    "outputs",
    [
        Output().add("only one", batch_index=0),
        Output().add("a", batch_index=0).add("b", batch_index=2),
        Output().add("a", batch_index=0).add("a", batch_index=0),
        Output().add("a").add("b"),
    ],
)
def test_a_batch_without_an_answer_for_each_request_fails_all_of_them(outputs: Output) -> None:
    with pytest.raises(
        HandlerFault, match="Batch output size mismatch: a batch of 2 needs one content for each"
    ) as fault:
        Handler(lambda inputs: outputs, {}).answer([call(), call()])

    assert fault.value.code == 424


def test_an_error_is_the_answer_of_the_whole_batch() -> None:
    answers = Handler(lambda inputs: Output().error("no tea", 418), {}).answer([call(), call()])

    assert [answer.code for answer in answers] == [418, 418]


@pytest.mark.parametrize("error", [MemoryError("too much"), type("OutOfMemoryError", (RuntimeError,), {})("too much")])
def test_memory_that_ran_out_is_507(error: Exception) -> None:
    def handle(inputs: Input) -> None:
        raise error

    with pytest.raises(HandlerFault, match="too much") as fault:
        Handler(handle, {}).answer([call()])

    assert fault.value.code == 507


def test_a_stream_is_sent_item_by_item_and_finalized_at_its_end() -> None:
    finalized = []

    def words() -> Iterator[str]:
        yield "a"
        yield "b"

    output = Output().add_property("content-type", "application/jsonlines").add_stream_content(words())
    (answer,) = Handler(lambda inputs: output.finalize(finalized.append, "done"), {}).answer([call()])
    assert answer.chunks is not None and finalized == []
    chunks = list(answer.chunks)

    assert chunks == [b'{"outputs": "a"}\n', b'{"outputs": "b"}\n']
    assert finalized == ["done"]


def test_a_stream_that_fails_says_so_after_what_it_has_sent() -> None:
    def words() -> Iterator[str]:
        yield "a"
        raise ValueError("the tea is cold")

    (answer,) = Handler(lambda inputs: Output().add_stream_content(words()), {}).answer([call()])
    assert answer.chunks is not None

    assert next(answer.chunks) == b'{"outputs": "a"}\n'
    with pytest.raises(HandlerFault, match="in the middle of its stream: ValueError: the tea is cold"):
        next(answer.chunks)


def test_a_stream_whose_client_went_away_is_closed() -> None:
    closed = []

    def words() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    (answer,) = Handler(lambda inputs: Output().add_stream_content(words()), {}).answer([call()])
    assert answer.chunks is not None
    next(answer.chunks)
    answer.chunks.close()  # type: ignore[attr-defined]

    assert closed == [True]


def test_an_asynchronous_handler_answers_and_streams_frames() -> None:
    async def words() -> AsyncIterator[bytes]:
        for text, last in (("a", False), ("b", True), ("never", False)):
            await asyncio.sleep(0)
            yield Output.binary_encode({"data": text, "last": last})

    async def handle(inputs: Input) -> Output:
        await asyncio.sleep(0)
        return Output().add("plain") if inputs.get_as_string() == "plain" else Output().add_stream_content(words())

    handler = Handler(handle, {})
    (plain,), (stream,) = handler.answer([call(b"plain")]), handler.answer([call(b"stream")])

    assert plain.body == b"plain"
    assert stream.chunks is not None and list(stream.chunks) == [b"a", b"b"]


def test_a_frame_with_an_error_ends_the_stream_with_its_code() -> None:
    async def words() -> AsyncIterator[bytes]:
        yield Output.binary_encode({"data": "", "error": "no tea", "code": 503})

    (answer,) = Handler(lambda inputs: Output().add_stream_content(words()), {}).answer([call()])
    assert answer.chunks is not None

    with pytest.raises(HandlerFault, match="no tea") as fault:
        list(answer.chunks)
    assert fault.value.code == 503


def test_several_requests_cannot_share_a_stream() -> None:
    with pytest.raises(HandlerFault, match="cannot be answered by one stream: set batch_size=1"):
        Handler(lambda inputs: Output().add_stream_content([]), {}).answer([call(), call()])


def test_a_warm_up_that_answers_with_an_error_is_a_failed_load() -> None:
    with pytest.raises(LoadError, match="answered its empty first call with code 507: "):
        Handler(lambda inputs: Output().error("no memory", 507), {}).warm_up()


def test_the_fields_of_a_form_are_contents_of_their_own() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nh\xc3\xa9\r\n--x\r\n'
    body += b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n\x00\r\n\x01\r\n--x--\r\n'

    assert list(contents_of(call(body, content_type="multipart/form-data; boundary=x"))) == [
        ("text", "hé".encode()),
        ("file", b"\x00\r\n\x01"),
    ]
    assert list(contents_of(call(b"a=1&b=2", content_type="application/x-www-form-urlencoded"))) == [
        ("data", b"a=1&b=2"),
        ("a", b"1"),
        ("b", b"2"),
    ]


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nno name\r\n--x--"])
def test_a_broken_form_is_400_and_its_neighbours_in_the_batch_are_answered(body: bytes) -> None:
    def handle(inputs: Input) -> Output:
        outputs = Output()
        for index, each in enumerate(inputs.get_batches()):
            outputs.add(each.get_as_bytes(), batch_index=index)
        return outputs

    broken = call(body, content_type="multipart/form-data; boundary=x")
    latin = call(b"a=\xe4", content_type="application/x-www-form-urlencoded")
    handler = Handler(handle, {})
    (alone,) = handler.answer([broken])
    one, first, two, second = handler.answer([broken, call(b"a"), latin, call(b"b")])

    assert (alone.code, one.code, two.code) == (400, 400, 400)
    assert "form" in json.loads(alone.body)["error"]
    assert json.loads(two.body) == {"error": "the form is not UTF-8: unexpected end of data at byte 2", "code": 400}
    assert [(each.code, each.body) for each in (first, second)] == [(200, b"a"), (200, b"b")]
    assert handler.answer([call(b"a"), broken])[0].body == b"a"


def test_the_engine_speaks_the_words_of_the_channel() -> None:
    calls = {"type": "call", "calls": [{"properties": {}, "size": 1}, {"properties": {}, "size": 2}]}

    def handle(inputs: Input) -> Output:
        outputs = Output()
        for index, each in enumerate(inputs.get_batches()):
            outputs.add(each.get_as_bytes() * 2, batch_index=index)
        return outputs

    (answer,) = Script(Handler(handle, {})).answer(Message(calls, b"abb"))
    assert [each["size"] for each in answer.header["answers"]] == [2, 4]
    assert answer.body == b"aabbbb"

    one = Message({"type": "call", "calls": [{"properties": {}, "size": 0}]})
    stream = Script(Handler(lambda inputs: Output().add_stream_content([1]), {})).answer(one)
    assert [each.type for each in stream] == ["begin", "chunk", "end"]
