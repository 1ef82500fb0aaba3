"""A user's `handle(inputs)` and what goes in and out of it: LMI's handler contract. Not the process: script.py.

The first call has no content: scripts load their model then. Source: deepjavalibrary/djl-serving, djl_python_engine
and PyPredictor (v0.23 to v0.36). It imports djl_python, so script.py puts that on the path first.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import re
import threading
import traceback
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Frame, Output
from heavylift_runtime.engines.content import Call, contents_of, properties_of
from heavylift_runtime.errors import LoadError

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_LONGEST = 2000  # characters of an exception's text
_UNSENT = ("content-length", "transfer-encoding", "connection")  # the server's own
_Contents = list[tuple[str, bytes]]  # of one request, by their keys
_OUT_OF_MEMORY = ("No available memory for the cache blocks", "CUDA error: out of memory")


class HandlerFault(Exception):
    """The handler failed its client: 424, or 507 where memory ran out. The process goes on."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    @classmethod
    def of(cls, error: Exception, what: str = "the script failed") -> HandlerFault:
        """What a script's exception tells its client."""
        if isinstance(error, cls):
            return error
        text = str(error)
        memory = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
        return cls(507 if memory or any(each in text for each in _OUT_OF_MEMORY) else 424, f"{what}: {words(error)}")


@dataclass(frozen=True)
class Answer:
    """What one client gets: a body, or chunks as they come. A chunk that fails raises HandlerFault."""

    code: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: Iterator[bytes] | None = None


class Handler:
    """A script's function with the properties of its model, called for one request or for a batch of them."""

    def __init__(self, handle: Callable[[Input], Any], properties: Mapping[str, Any]) -> None:
        self._handle, self._properties, self._loop = handle, dict(properties), _Loop()
        self._options = {name: value for name, value in properties.items() if name != "batch_size"}  # of each request

    def warm_up(self, what: str = "its empty first call") -> None:
        """The call without content; raises LoadError where the script fails it."""
        try:
            output = self._call(Input(self._properties))
        except Exception as error:
            traceback.print_exc()
            raise LoadError(f"the script failed {what}: {words(error)}") from error
        if isinstance(output, Output) and output.code >= 300:
            texts = b" ".join(output.content.get_values()).decode("utf-8", "replace")
            raise LoadError(f"the script answered {what} with code {output.code}: {texts or _message(output)}")

    def answer(self, calls: Sequence[Call]) -> list[Answer]:
        """One answer for each call, in order: 400 where its form is broken, which the script does not see. Raises
        HandlerFault, which is then the answer of all of them."""
        read = [_read(call) for call in calls]
        sound = [(call, contents) for call, contents in zip(calls, read, strict=True) if isinstance(contents, list)]
        answers = iter(self._answered(sound, len(calls)) if sound else ())
        return [next(answers) if isinstance(each, list) else each for each in read]

    def _answered(self, calls: Sequence[tuple[Call, _Contents]], together: int) -> list[Answer]:
        """Of `together` calls, these are sound."""
        try:
            output = self._output(self._call(self._input(calls)))
            if output.stream_content is not None and together > 1:
                raise ValueError("a batch of requests cannot be answered by one stream: set batch_size=1")
            answers = self._answers(output, len(calls))
        except Exception as error:  # whatever a script raises is its client's answer, and no reason to stop
            if not isinstance(error, HandlerFault):
                traceback.print_exc()
            raise HandlerFault.of(error) from error
        if output.stream_content is None:
            output.execute_finalize()
        return answers

    def _call(self, inputs: Input) -> Any:
        given = self._handle(inputs)
        return self._loop.run(given) if inspect.isawaitable(given) else given

    def _output(self, given: Any) -> Output:
        """The reply; of an asynchronous generator's Outputs, the first one's headers and the contents of all as a
        stream."""
        if not isinstance(given, AsyncIterable):
            return _output(given)
        outputs = self._loop.each(given)
        first = _streamed(next(outputs, Output(204, "No content")))
        if faults := _failures(first):
            raise faults[0]
        whole = Output(first.code, first.message)
        whole.properties = first.properties
        contents = (value for each in chain([first], outputs) for value in _streamed(each).content.get_values())
        return whole if first.content.is_empty() else whole.add_stream_content(contents, None)

    def _input(self, calls: Sequence[tuple[Call, _Contents]]) -> Input:
        if len(calls) == 1:
            ((call, contents),) = calls
            inputs = Input(properties_of(call) | self._options)
            for key, value in contents:
                inputs.content.add(key, value)
            return inputs
        inputs = Input(self._options | {"batch_size": str(len(calls))})
        for number, (call, contents) in enumerate(calls):
            inputs.properties |= {f"batch_{number}.{key}": value for key, value in properties_of(call).items()}
            for key, value in contents:
                inputs.content.add(f"batch_{number}.{key}", value)
        return inputs

    def _answers(self, output: Output, count: int) -> list[Answer]:
        code = _code(output)
        if code >= 400 and output.stream_content is None and output.content.is_empty():
            output.error(_message(output), code, output.message)
        headers = _headers(output)
        if output.stream_content is not None:
            return [Answer(code, headers, chunks=self._chunks(output, output.stream_content))]
        if count == 1 and (faults := _failures(output)):
            raise faults[0]
        if count == 1 or code >= 300:
            return [Answer(code, headers, b"".join(output.content.get_values()))] * count
        bodies: dict[str, bytes] = {}
        for key, value in output.content:
            prefix, _, _ = (key or "").partition(".")
            bodies[prefix] = value
        wanted = [f"batch_{number}" for number in range(count)]
        if sorted(bodies) != sorted(wanted) or len(output.content) != count:
            keys = ", ".join(str(key) for key in output.content.get_keys()[: 2 * count])
            raise ValueError(
                f"Batch output size mismatch: a batch of {count} needs one content for each request, "
                f"added with batch_index= or the request's own key: got {len(output.content)} ({keys})"
            )
        types = [headers.pop(f"{prefix}_Content-Type", None) for prefix in wanted]
        usual = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        own = [headers if kind is None else {**usual, "content-type": kind} for kind in types]
        return [_answer(code, each, bodies[prefix]) for prefix, each in zip(wanted, own, strict=True)]

    def _chunks(self, output: Output, stream: Iterable[Any] | AsyncIterable[Any]) -> Iterator[bytes]:
        items = self._loop.each(stream) if isinstance(stream, AsyncIterable) else stream
        try:
            for item in items:
                if not isinstance(item, Frame):
                    yield output.chunk(item)
                    continue
                if item.failure is not None:
                    raise HandlerFault(*item.failure)
                yield bytes(item)
                if item.last:
                    return
        except Exception as error:
            if not isinstance(error, HandlerFault):
                traceback.print_exc()
            raise HandlerFault.of(error, "the script failed in the middle of its stream") from error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            output.execute_finalize()


class _Loop:
    """The event loop of asynchronous handlers, in a thread that begins with the first of them and never ends."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Any) -> Any:
        """What it returns."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="script", daemon=True).start()

        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def each(self, stream: AsyncIterable[Any]) -> Iterator[Any]:
        """The items of an asynchronous generator."""
        iterator = aiter(stream)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield self.run(anext(iterator))


def words(error: Exception) -> str:
    """An exception in one sentence of bounded length."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _read(call: Call) -> _Contents | Answer:
    """What a request holds, or why it cannot be read."""
    try:
        return list(contents_of(call))
    except ValueError as error:
        told = {"error": str(error), "code": 400}
        return Answer(400, {"content-type": "application/json"}, json.dumps(told).encode())


def _output(given: Any) -> Output:
    """What a handler may return: an Output, None, JSON, text or bytes."""
    if isinstance(given, Output):
        return given
    if given is None:
        return Output(204, "No content")
    if isinstance(given, dict | list):
        return Output().add_property("content-type", "application/json").add_as_json(given)
    if isinstance(given, str):
        return Output().add_property("content-type", "text/plain; charset=utf-8").add(given)
    if isinstance(given, bytes | bytearray):
        return Output().add_property("content-type", "application/octet-stream").add(given)
    raise TypeError(f"handle() must return an Output, a dict, a list, a str, bytes or None: got {type(given).__name__}")


def _streamed(given: Any) -> Output:
    if not isinstance(given, Output):
        raise TypeError(f"an asynchronous generator of handle() must give Outputs: got {type(given).__name__}")
    return given


def _failures(output: Output) -> list[HandlerFault]:
    """What the frames among the contents say of an error."""
    values = output.content.get_values()
    return [HandlerFault(*each.failure) for each in values if isinstance(each, Frame) and each.failure is not None]


def _answer(code: int, headers: dict[str, str], body: bytes) -> Answer:
    """One of a batch; a frame's error is its client's alone."""
    if not isinstance(body, Frame) or body.failure is None:
        return Answer(code, headers, body)
    failed = Output().error(body.failure[1], body.failure[0])
    return Answer(failed.code, failed.properties, failed.content.value_at(0))


def _message(output: Output) -> str:
    """Beside the code, what a script says without content: in LMI the status line's words, which nobody sees."""
    return output.message if output.message != Output().message else "the script does not say why"


def _code(output: Output) -> int:
    if type(output.code) is not int or not 200 <= output.code <= 599:
        raise ValueError(f"an Output's code must be from 200 to 599: got {output.code!r}")
    return output.code


def _headers(output: Output) -> dict[str, str]:
    headers = {str(name): str(value) for name, value in output.properties.items() if name.lower() not in _UNSENT}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"a property of an Output is no HTTP header: {name!r}: {value!r}")
    return headers
