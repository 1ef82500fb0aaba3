"""What a user's `handle(inputs)` gets and gives: Input and Output, by LMI's names. Not the engine: script.py.

The names, their behaviour and their defaults are those of djl_python in deepjavalibrary/djl-serving v0.23, written
anew; of its many encodings, this version has bytes, text and JSON.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_log = logging.getLogger("heavylift_runtime.script")


class PairList:
    """Ordered pairs of a key, which may be None, and a value."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str | None, Any]] = []

    def add(self, key: str | None = None, value: Any = None) -> None:
        """Append a pair."""
        self.pairs.append((key, value))

    def size(self) -> int:
        """How many pairs."""
        return len(self.pairs)

    def is_empty(self) -> bool:
        """No pairs."""
        return not self.pairs

    def get(self, key: str) -> Any:
        """The value of the first pair with this key, or None."""
        return next((value for each, value in self.pairs if each == key), None)

    def key_at(self, index: int) -> str | None:
        """The key of a pair."""
        return self.pairs[index][0]

    def value_at(self, index: int) -> Any:
        """The value of a pair."""
        return self.pairs[index][1]

    def get_keys(self) -> list[str | None]:
        """All keys."""
        return [key for key, _ in self.pairs]

    def get_values(self) -> list[Any]:
        """All values."""
        return [value for _, value in self.pairs]

    def __iter__(self) -> Iterator[tuple[str | None, Any]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


class Input:
    """A request: its properties (options and headers) and its content. The warm-up call has no content."""

    def __init__(self, properties: Mapping[str, Any] | None = None) -> None:
        self.properties: dict[str, Any] = dict(properties) if properties is not None else {}
        self.content = PairList()

    @property
    def function_name(self) -> str | None:
        """The function that is called."""
        name: str | None = self.get_property("handler")
        return name

    def is_empty(self) -> bool:
        """It is the warm-up call."""
        return self.content.is_empty()

    def is_batch(self) -> bool:
        """Several requests in one: never, in this version."""
        return self.get_batch_size() > 1

    def get_batch_size(self) -> int:
        """Requests in one; 1."""
        return int(self.properties.get("batch_size", 1))

    def get_batches(self) -> list[Input]:
        """The requests in it: itself."""
        return [self]

    def get_function_name(self) -> str | None:
        """The function that is called."""
        return self.function_name

    def get_properties(self) -> dict[str, Any]:
        """Options without `option.`, headers as the client sent them."""
        return self.properties

    def get_property(self, key: str) -> Any:
        """A property whatever its capitals, or None."""
        if key in self.properties:
            return self.properties[key]
        return next((value for each, value in self.properties.items() if each.lower() == key.lower()), None)

    def contains_key(self, key: str) -> bool:
        """There is content under this key."""
        return key in self.content.get_keys()

    def get_content(self) -> PairList:
        """The content; a request's body has the key `data`."""
        return self.content

    def get_as_bytes(self, key: str | None = None) -> Any:
        """The body, or the content under a key (KeyError where there is none); None in the warm-up call."""
        if self.content.is_empty():
            return None
        if key is None:
            data = self.content.get("data")
            return self.content.value_at(0) if data is None else data
        if not self.contains_key(key):
            raise KeyError(f"no content has the key {key!r}: there are {self.content.get_keys()}")
        return self.content.get(key)

    def get_as_string(self, key: str | None = None) -> str | None:
        """The same as UTF-8 text."""
        data = self.get_as_bytes(key)
        return None if data is None else bytes(data).decode("utf-8")

    def get_as_json(self, key: str | None = None) -> Any:
        """The same as JSON."""
        text = self.get_as_string(key)
        return None if text is None else json.loads(text)

    def get_data(self, key: str | None = None) -> Any:
        """By its content type: JSON, text, or bytes."""
        kind = str(self.get_property("content-type") or "").lower()
        if kind.startswith("application/json"):
            return self.get_as_json(key)
        return self.get_as_string(key) if kind.startswith("text/") else self.get_as_bytes(key)


class Output:
    """A reply: code, properties (headers) and content. Every setter returns the output itself."""

    def __init__(self, code: int = 200, message: str = "OK") -> None:
        self.code = code
        self.message = message
        self.properties: dict[str, str] = {}
        self.content = PairList()
        self._finalizer: Callable[[], object] | None = None

    def set_code(self, code: int) -> Output:
        """The HTTP status."""
        self.code = code
        return self

    def set_message(self, message: str) -> Output:
        """A word beside the code."""
        self.message = message
        return self

    def add_property(self, key: str, value: str) -> Output:
        """A header, as `content-type`."""
        self.properties[key] = value
        return self

    def get_properties(self) -> dict[str, str]:
        """The headers."""
        return self.properties

    def get_property(self, key: str) -> str | None:
        """A header whatever its capitals, or None."""
        return next((value for each, value in self.properties.items() if each.lower() == key.lower()), None)

    def add(self, value: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """Text as UTF-8, bytes as they are, anything else as JSON."""
        if isinstance(value, bytes | bytearray):
            data = bytes(value)
        else:
            data = value.encode("utf-8") if isinstance(value, str) else _json(value)
        self.content.add(key if batch_index is None else f"batch_{batch_index}.{key or ''}", data)
        return self

    def add_as_json(self, value: Any, key: str | None = None, batch_index: int | None = None) -> Output:
        """As JSON, texts too."""
        return self.add(_json(value), key, batch_index)

    def error(self, error: str, code: int = 424, message: str = "invoke handler failure") -> Output:
        """Make it a failure."""
        self.code, self.message, self.content = code, message, PairList()
        self.properties["content-type"] = "application/json"
        return self.add({"error": error, "code": code, "message": message})

    def finalize(self, function: Callable[..., object], *arguments: Any) -> Output:
        """Call a function once the reply has been sent."""
        self._finalizer = lambda: function(*arguments)
        return self

    def execute_finalize(self) -> None:
        """Call it; what it raises is only logged."""
        if self._finalizer is None:
            return
        try:
            self._finalizer()
        except Exception:
            _log.exception("the function given to Output.finalize failed")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain).encode("utf-8")


def _plain(value: Any) -> Any:
    """numpy's and torch's scalars and arrays have `tolist`; dates have `isoformat`."""
    for name in ("tolist", "isoformat"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"{type(value).__name__} has no JSON form")
