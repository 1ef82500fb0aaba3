"""A request's body by its Content-Type, and a reply by the client's Accept. Not the formats: np_util.py has NDList.

What `decode` gives for each type is djl-serving's (engines/python, encode_decode.py, v0.23 to v0.36): its scripts read
`decode(…)["inputs"]`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Output

_COLUMNS = ("question", "context", "inputs")


def decode(inputs: Input, content_type: str | None, key: str | None = None, require_csv_headers: bool = True) -> Any:
    """The body as a value: JSON as it is, anything else as `{"inputs": …}`, bytes where the type is unknown.

    Without a type it is JSON, or no text where it is empty; a CSV without names (`require_csv_headers=False`) is an
    array.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if not kind and not inputs.get_as_bytes(key):
        return {"inputs": ""}
    if not kind or "application/json" in kind:  # JSON lines, too, where it is one line
        return inputs.get_as_json(key)
    if kind == "text/csv":
        return decode_csv(inputs, require_csv_headers, key)
    if kind == "text/plain":
        return {"inputs": [inputs.get_as_string(key)]}
    if kind.startswith("image/"):
        return {"inputs": inputs.get_as_image(key)}
    if kind == "tensor/npz":
        return {"inputs": inputs.get_as_npz(key)}
    if kind in ("tensor/ndlist", "application/x-npy"):
        return {"inputs": inputs.get_as_numpy(key)}
    if kind == "application/x-www-form-urlencoded":
        return {"inputs": inputs.get_as_string(key)}
    return {"inputs": inputs.get_as_bytes(key)}


def encode(outputs: Output, prediction: Any, content_type: str | None, key: str | None = None) -> Output:
    """The output with the prediction in the first form of an Accept that there is; ValueError where there is none."""
    wanted = [each.partition(";")[0].strip().lower() for each in (content_type or "*/*").split(",")]
    for kind in wanted:
        for pattern, add in _FORMS.items():
            if fnmatchcase(kind, pattern) or fnmatchcase(pattern, kind):
                return add(outputs, prediction, key)
    raise ValueError(f"Accept must name one of {', '.join(_FORMS)}: got {content_type!r}")


def decode_csv(inputs: Input, require_headers: bool = True, key: str | None = None) -> Any:
    """The column `inputs`, or each line by its names, as `{"inputs": …}`; without names, the numbers as an array.

    ValueError where the first line has no known name (in any capitals), or where a cell is no number.
    """
    text = inputs.get_as_string(key) or ""
    if not require_headers:
        return _numbers(text)
    heading = text.partition("\n")[0].strip()
    if not any(name in heading.lower() for name in _COLUMNS):
        raise ValueError(f"a CSV's first line must name one of {', '.join(_COLUMNS)}: got {heading[:100]!r}")
    return {"inputs": [row.get("inputs", row) for row in csv.DictReader(io.StringIO(text))]}


def encode_csv(content: Any) -> str:
    """A CSV with a line of names: of dictionaries, or of anything else under the name `outputs`."""
    rows = content if isinstance(content, list) else [content]
    rows = [row if isinstance(row, Mapping) else {"outputs": row} for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _numbers(text: str) -> Any:
    import numpy as np

    cells = np.genfromtxt(io.StringIO(text), delimiter=",") if text.strip() else np.array([np.nan])
    if np.isnan(cells).any():
        raise ValueError("a CSV without names must be numbers alone, in lines of the same length")
    return cells


def _as_json(outputs: Output, prediction: Any, key: str | None) -> Output:
    return outputs.add_property("content-type", "application/json").add_as_json(prediction, key)


def _as_csv(outputs: Output, prediction: Any, key: str | None) -> Output:
    return outputs.add_property("content-type", "text/csv").add(encode_csv(prediction), key)


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
