"""The checkpoint's files that say how a prompt is made, for the server, which reads nothing from elsewhere. In rank 0.

Not how they are read: that is server/templates.py, which the server does again with what it is told here.
"""

from __future__ import annotations

import json
from pathlib import Path

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.sources import source_of, whole
from heavylift_runtime.options import Options


def prompt_files(options: Options, folder: Path) -> dict[str, str]:
    """Name → text; empty where the weights are local. LoadError, OptionsError where they are no such files."""
    place = options.model_id
    if place is None or not options.elsewhere(folder):
        return {}
    from heavylift_runtime.server.templates import FILES, LARGEST_FILE, TOKENIZER, chained, prompts_of, reader  # jinja2

    source = source_of(place, folder, options.properties.get("revision"))
    found = {}
    for name, size in source.files().items():
        if name in FILES:
            if size > LARGEST_FILE:
                raise LoadError(f"{place} {name}: has {size} bytes, at most {LARGEST_FILE}")
            try:
                found[name] = whole(source, name, size).decode()
            except UnicodeDecodeError as error:
                raise LoadError(f"{place} {name}: is not UTF-8 text: {error}") from error
    if TOKENIZER in found:  # of its megabytes, this part is wanted
        try:
            processor = json.loads(found[TOKENIZER]).get("post_processor")
        except (ValueError, AttributeError, RecursionError) as error:
            raise LoadError(f"{place} {TOKENIZER}: is no JSON object: {error}") from error
        found[TOKENIZER] = json.dumps({"post_processor": processor})
    prompts_of(options.properties, chained(reader(folder), found.get))  # a wrong template ends the load, not a request
    return found
