"""A session's values as JSON and back: what comes back is what was put. Not pickle.

A session's folder is open to its script (`files_path`), which may keep a client's upload there under a client's name:
so nothing in it is ever unpickled. JSON's own types stand for themselves but for objects: each is a tag and what it
tags, as `{"tuple": [1, 2]}` and `{"dict": [[1, "a"]]}`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

_LIKE_LISTS: Mapping[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_LIKE_BYTES: Mapping[str, Callable[[Any], Any]] = {"bytes": bytes, "bytearray": bytearray}
_TIMES: Mapping[str, Callable[[str], Any]] = {"date": date.fromisoformat, "datetime": datetime.fromisoformat}
_KEPT = "JSON's, tuples, sets, bytes, dates and times in UTC or without a zone, and numpy's numbers and arrays of them"


def dumps(value: Any) -> str:
    """The text of a value; TypeError, with a sentence, for one that would come back as another or not at all."""
    return json.dumps(_told(value))


def loads(text: str) -> Any:
    """The value of a text that `dumps` gave."""
    return json.loads(text, object_pairs_hook=lambda pairs: _read(*pairs[0]))


def _told(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_told(each) for each in value]
    if kind is dict:
        return {"dict": [[_told(key), _told(each)] for key, each in value.items()]}
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [_told(each) for each in value]}
    if kind in (bytes, bytearray):
        return {kind.__name__: base64.b64encode(value).decode()}
    if kind is date or (kind is datetime and not value.fold and value.tzinfo in (None, UTC)):
        return {kind.__name__: value.isoformat()}
    if kind.__module__ == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject:
        import numpy as np

        if kind is np.ndarray or isinstance(value, np.generic):  # not a matrix, which would come back as an array
            file = io.BytesIO()
            np.save(file, value, allow_pickle=False)
            return {"array" if kind is np.ndarray else "number": base64.b64encode(file.getvalue()).decode()}
    mend = "put what it is made of, or write it to a file in session.files_path"
    raise TypeError(f"a session keeps values of plain types ({_KEPT}): got {kind.__name__}; {mend}")


def _read(tag: str, told: Any) -> Any:
    if tag == "dict":
        return dict(told)
    if tag in _LIKE_LISTS:
        return _LIKE_LISTS[tag](told)
    if tag in _LIKE_BYTES:
        return _LIKE_BYTES[tag](base64.b64decode(told))
    if tag in _TIMES:
        return _TIMES[tag](told)
    import numpy as np

    array = np.load(io.BytesIO(base64.b64decode(told)), allow_pickle=False)
    return array if tag == "array" else array[()]
