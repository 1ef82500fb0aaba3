"""Whether what a model file names lies beside it, and is what it is named as: code, templates, prompts. Not what the
weights are: inspection reads those."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.workload import packed
from heavylift.errors import InputError
from heavylift.spec.fault import Fault, dotted
from heavylift.spec.fields import BESIDE, LONGEST_BESIDE
from heavylift.spec.rules.read import Data, part
from heavylift.spec.template import SAYS, read_template

FOLDERS: tuple[tuple[str, ...], ...] = (("model", "path"), ("code",))
FILES: tuple[tuple[str, ...], ...] = (
    ("prompt", "chat_template"),
    ("prompt", "template"),
    ("benchmark", "workload", "dataset"),
)


def beside_faults(data: Data, file: File) -> Iterator[Fault]:
    """Every one that is missing; of `model.path` only where no lock stands in for the weights, as in a checkout."""
    for path in (*FOLDERS, *FILES):
        named: Any = part(data, *path[:-1]).get(path[-1])
        if not isinstance(named, str) or len(named) > LONGEST_BESIDE or re.fullmatch(BESIDE, named) is None:
            continue  # which the field itself refuses
        there, folder = file.parent / named, path in FOLDERS
        if there.is_dir() if folder else there.is_file():
            yield from _content_faults(path, there, file.parent)
            continue
        if path == ("model", "path") and not there.exists() and list(file.parent.glob(f"{file.stem}*.lock")):
            continue
        kind = "folder" if folder else "file"
        yield Fault(path, f"'{dotted(path)}' names the {kind} '{named}', which is not there: {there}")


def _content_faults(path: tuple[str, ...], there: File, folder: File) -> Iterator[Fault]:
    try:
        _read(path, there, folder)
    except (InputError, FormatError) as error:
        yield from (Fault(path, f"'{dotted(path)}': {sentence}") for sentence in error.faults)
    except OSError as error:
        yield Fault(path, f"'{dotted(path)}': cannot read {there}: {error.strerror or error}")


def _read(path: tuple[str, ...], there: File, folder: File) -> None:
    """Raises InputError or FormatError with all that is wrong in it."""
    if path == ("code",):
        from heavylift.serving.code import read_code  # that room knows this one

        read_code(there)
    elif path[0] == "prompt":
        read_template(there, folder, SAYS[path[-1]])
    elif path[0] == "benchmark":
        packed(there.name, there.read_bytes())
