"""A request's body by its Content-Type, and a reply by the client's Accept. Not the formats: np_util.py has NDList."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl

from djl_python.inputs import Input
from djl_python.outputs import Output

_COLUMNS = ("question", "context", "inputs")


def decode(inputs: Input, content_type: str | None, key: str | None = None) -> Any:
    """The body as a value: text, images, sound and forms become `{"inputs": …}`; without a type it is JSON."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "text/csv":
        return {"inputs": _rows(inputs, key)}
    if kind.startswith("text/"):
        return {"inputs": [inputs.get_as_string(key)]}
    if kind.startswith("image/"):
        return {"inputs": inputs.get_as_image(key)}
    if kind.startswith("audio/"):
        return {"inputs": inputs.get_as_bytes(key)}
    if kind == "tensor/npz":
        return inputs.get_as_npz(key)
    if kind in ("tensor/ndlist", "application/x-npy"):
        return inputs.get_as_numpy(key)
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(inputs.get_as_string(key) or "", keep_blank_values=True))
    return inputs.get_as_json(key)


def encode(outputs: Output, prediction: Any, accept: str | None, key: str | None = None) -> Output:
    """The output with the prediction in the first form of Accept that there is; ValueError where there is none."""
    wanted = [each.partition(";")[0].strip().lower() for each in (accept or "*/*").split(",")]
    for kind in wanted:
        for pattern, add in _FORMS.items():
            if fnmatchcase(kind, pattern) or fnmatchcase(pattern, kind):
                return add(outputs, prediction, key)
    raise ValueError(f"Accept must name one of {', '.join(_FORMS)}: got {accept!r}")


def _rows(inputs: Input, key: str | None) -> list[Any]:
    rows = inputs.get_as_csv(key) or []
    if rows and not any(name in _COLUMNS for name in rows[0]):
        raise ValueError(f"a CSV's first line must name one of {', '.join(_COLUMNS)}: got {', '.join(rows[0])}")
    return [row.get("inputs", row) for row in rows]


def _as_json(outputs: Output, prediction: Any, key: str | None) -> Output:
    return outputs.add_property("content-type", "application/json").add_as_json(prediction, key)


def _as_csv(outputs: Output, prediction: Any, key: str | None) -> Output:
    rows = prediction if isinstance(prediction, list) else [prediction]
    rows = [row if isinstance(row, Mapping) else {"outputs": row} for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return outputs.add_property("content-type", "text/csv").add(file.getvalue(), key)


def _as_npz(outputs: Output, prediction: Any, key: str | None) -> Output:
    return outputs.add_property("content-type", "tensor/npz").add_as_npz(prediction, key)


def _as_nd_list(outputs: Output, prediction: Any, key: str | None) -> Output:
    return outputs.add_property("content-type", "tensor/ndlist").add_as_numpy(prediction, key)


def _as_text(outputs: Output, prediction: Any, key: str | None) -> Output:
    outputs.add_property("content-type", "text/plain; charset=utf-8")
    return outputs.add(prediction if isinstance(prediction, str) else str(prediction), key)


_FORMS: Mapping[str, Callable[[Output, Any, str | None], Output]] = {
    "application/json": _as_json,
    "text/csv": _as_csv,
    "text/plain": _as_text,
    "tensor/npz": _as_npz,
    "tensor/*": _as_nd_list,
    "application/x-npy": _as_nd_list,
}
