"""Whether the folders and files that a model file names lie beside it, and its templates are some. Not what is in the
others: inspection reads that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

from heavylift.errors import InputError
from heavylift.spec.fault import Fault, Path, dotted
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
            if path[0] == "prompt":
                yield from _template_faults(path, there, file.parent)
            continue
        if path == ("model", "path") and not there.exists() and list(file.parent.glob(f"{file.stem}*.lock")):
            continue
        kind = "folder" if folder else "file"
        yield Fault(path, f"'{dotted(path)}' names the {kind} '{named}', which is not there: {there}")


def _template_faults(path: Path, template: File, folder: File) -> Iterator[Fault]:
    try:
        read_template(template, folder, SAYS[str(path[-1])])
    except InputError as error:
        for sentence in error.faults:
            yield Fault(path, f"'{dotted(path)}': {sentence}")
