"""What `handle(inputs)` gets: a request's properties and its content, or several requests in one. Not the reply.

The warm-up call has no content. Several requests arrive together where the server batches (`batch_size` in
serving.properties): request i then has its content under `batch_<i>.<key>`, and `get_batches` takes them apart.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from djl_python.pair_list import PairList

_OF_ONE = re.compile(r"batch_\d+\.")


class Properties(dict[str, Any]):
    """Options and headers, found whatever their capitals: scripts write `Content-Type`, HTTP does not care."""

    def __missing__(self, key: str) -> Any:
        if (name := self._named(key)) is None:
            raise KeyError(key)
        return self[name]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and self._named(key) is not None)

    def get(self, key: str, default: Any = None) -> Any:
        """The property, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def _named(self, key: str) -> str | None:
        return next((each for each in self if each.lower() == key.lower()), None)


class Input:
    """A request: its properties (options and headers) and its content."""

    def __init__(self, properties: Mapping[str, Any] | None = None) -> None:
        self.properties: dict[str, Any] = Properties({} if properties is None else properties)
        self.content = PairList()
        self._function_name: str | None = None

    @property
    def function_name(self) -> str | None:
        """The function that is called: the property `handler`, unless it was set."""
        name: str | None = self.get_property("handler")
        return name if self._function_name is None else self._function_name

    @function_name.setter
    def function_name(self, name: str | None) -> None:
        self._function_name = name

    def is_empty(self) -> bool:
        """It is the warm-up call."""
        return self.content.is_empty()

    def is_batch(self) -> bool:
        """Several requests may be in it."""
        return "batch_size" in self.properties

    def get_batch_size(self) -> int:
        """Requests in it."""
        return int(self.properties.get("batch_size", 1))

    def get_batches(self) -> list[Input]:
        """The requests in it, each with its own content and headers; itself where it is one."""
        size = self.get_batch_size()
        return [self] if size == 1 else [self._part(f"batch_{number}.") for number in range(size)]

    def _part(self, prefix: str) -> Input:
        own = {key.removeprefix(prefix): value for key, value in self.properties.items() if key.startswith(prefix)}
        whole = {key: value for key, value in self.properties.items() if key != "batch_size" and not _OF_ONE.match(key)}
        part = Input(own | whole)  # as of one that came alone: options win
        for key, value in self.content:
            if key is not None and key.startswith(prefix):
                part.content.add(key.removeprefix(prefix), value)
        return part

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

    def get_as_csv(self, key: str | None = None) -> list[dict[str, str]] | None:
        """The same as CSV with a line of names: a dictionary for each line."""
        text = self.get_as_string(key)
        return None if text is None else list(csv.DictReader(io.StringIO(text)))

    def get_as_image(self, key: str | None = None) -> Any:
        """The same as a PIL image."""
        from PIL import Image

        data = self.get_as_bytes(key)
        return None if data is None else Image.open(io.BytesIO(data))

    def get_as_numpy(self, key: str | None = None) -> Any:
        """The same as a list of numpy arrays, from an NDList or an npz file."""
        from djl_python.np_util import from_nd_list

        data = self.get_as_bytes(key)
        return None if data is None else from_nd_list(data)

    def get_as_npz(self, key: str | None = None) -> Any:
        """The same as the arrays of an npz file, in its order."""
        from djl_python.np_util import from_npz

        data = self.get_as_bytes(key)
        return None if data is None else from_npz(data)

    def get_data(self, key: str | None = None) -> Any:
        """By its content type: arrays, JSON, text, an image, or bytes."""
        kind = str(self.get_property("content-type") or "").lower()
        if kind in ("tensor/npz", "tensor/ndlist"):
            return self.get_as_numpy(key)
        if kind.startswith("application/json"):
            return self.get_as_json(key)
        if kind.startswith("image/"):
            return self.get_as_image(key)
        return self.get_as_string(key) if kind.startswith("text/") else self.get_as_bytes(key)

    def __str__(self) -> str:
        lines = [f"properties: {self.properties}"]
        lines += [f"{key}: {self.get_data(key)}" for key in self.content.get_keys()]
        return "\n".join(lines)
