"""What `handle(inputs)` gives: code, headers, and content or a stream of it. Not the request.

JSON is written without spaces and line breaks, where upstream indents it: a reply then also fits a line of JSON lines.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any

from djl_python.pair_list import PairList

_log = logging.getLogger("djl_python")

Formatter = Callable[[Any], bytes | str]


def as_json_line(item: Any) -> bytes:
    """The default form of a streamed item: a line of JSON."""
    return to_json({"outputs": item}) + b"\n"


class Output:
    """A reply. Every setter returns the output itself."""

    def __init__(self, code: int = 200, message: str = "OK") -> None:
        self.code = code
        self.message = message
        self.properties: dict[str, str] = {}
        self.content = PairList()
        self.stream_content: Iterable[Any] | AsyncIterable[Any] | None = None
        self.output_formatter: Formatter | None = None
        self.finalize_function: Callable[..., object] | None = None
        self.finalize_function_args: tuple[Any, ...] = ()

    def set_code(self, code: int) -> Output:
        """The HTTP status."""
        self.code = code
        return self

    def set_message(self, message: str) -> Output:
        """A word beside the code."""
        self.message = message
        return self

    def add_property(self, key: str, val: str) -> Output:
        """A header, as `content-type`."""
        self.properties[key] = val
        return self

    def get_properties(self) -> dict[str, str]:
        """The headers."""
        return self.properties

    def get_property(self, key: str) -> str | None:
        """A header whatever its capitals, or None."""
        return next((value for each, value in self.properties.items() if each.lower() == key.lower()), None)

    def add(self, value: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """Text as UTF-8, bytes as they are, anything else as JSON; `batch_index`: which request's reply it is."""
        if isinstance(value, bytes | bytearray):
            data = value if isinstance(value, Frame) else bytes(value)
        else:
            data = value.encode("utf-8") if isinstance(value, str) else to_json(value)
        if key is not None and not isinstance(key, str):
            _log.warning("the key of a content must be a text, got %r: it is written as one", key)
            key = str(key)
        self.content.add(key if batch_index is None else f"batch_{batch_index}.{key or ''}", data)
        return self

    def add_as_json(self, val: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """As JSON, texts too."""
        return self.add(to_json(val), key, batch_index)

    def add_as_numpy(self, np_list: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """An array, or several, as an NDList."""
        from djl_python.np_util import to_nd_list

        return self.add(to_nd_list(np_list), key, batch_index)

    def add_as_npz(self, np_list: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """An array, or several, as an npz file."""
        from djl_python.np_util import to_npz

        return self.add(to_npz(np_list), key, batch_index)

    def add_stream_content(
        self,
        stream_content: Iterable[Any] | AsyncIterable[Any],
        output_formatter: Formatter | None = as_json_line,
    ) -> Output:
        """Items that are sent as they come; the formatter gives each one's bytes (None: they are bytes already)."""
        self.stream_content = stream_content
        self.output_formatter = output_formatter
        return self

    _default_stream_output_formatter = staticmethod(as_json_line)  # scripts name it, as in LMI

    def chunk(self, item: Any) -> bytes:
        """A streamed item's bytes; raises TypeError where the formatter gives none."""
        data = item if self.output_formatter is None else self.output_formatter(item)
        if isinstance(data, str):
            return data.encode("utf-8")
        if isinstance(data, bytes | bytearray):
            return bytes(data)
        raise TypeError(f"a streamed item must be bytes or text once it is formatted: got {type(data).__name__}")

    def error(self, error: str, code: int = 424, message: str = "invoke handler failure") -> Output:
        """Make it a failure."""
        self.code, self.message, self.content, self.stream_content = code, message, PairList(), None
        self.properties["content-type"] = "application/json"
        return self.add({"error": error, "code": code, "message": message})

    def finalize(self, func: Callable[..., object], *args: Any) -> Output:
        """Call a function once the reply has been sent."""
        self.finalize_function, self.finalize_function_args = func, args
        return self

    def execute_finalize(self) -> object:
        """Call it, and give what it gives; what it raises is only logged."""
        if self.finalize_function is None:
            return None
        try:
            return self.finalize_function(*self.finalize_function_args)
        except Exception:
            _log.exception("the function given to Output.finalize failed")
            return None

    @staticmethod
    def binary_encode(response: Mapping[str, Any]) -> Frame:
        """A frame of an asynchronous handler's answer, from `data`, `last`, `error` and `code`."""
        return Frame(response)

    def __str__(self) -> str:
        return f"Output(code={self.code}, message={self.message!r}, properties={self.properties})"


class Frame(bytes):
    """The bytes of one streamed frame, and whether it is the last or an error."""

    last: bool
    failure: tuple[int, str] | None

    def __new__(cls, frame: Mapping[str, Any]) -> Frame:
        data = frame.get("data", b"")
        made = super().__new__(cls, data.encode("utf-8") if isinstance(data, str) else bytes(data))
        made.last = frame.get("last") in (True, "true")
        made.failure = (int(frame.get("code", 424)), str(frame["error"])) if frame.get("error") else None
        return made


def to_json(value: Any) -> bytes:
    """JSON of plain values, numpy's and torch's numbers and arrays, and dates; ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain).encode("utf-8")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's and torch's scalars and arrays
        return value.tolist()
    if hasattr(value, "isoformat"):  # of a date and a time, LMI writes `2026-01-02 03:04:05`
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
