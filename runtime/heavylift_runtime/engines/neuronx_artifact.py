"""What the Neuron compiler made, in a folder: its files, what it was made for, and a manifest. Not the compiling.

neuron.json      heavylift.neuron/1: the key; what is loaded must be asked for with the same one, field by field
compiled/        the SDK's files, as it wrote them
manifest.json    heavylift.manifest/1 with every file's SHA-256, written last: without it the folder is not complete
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heavylift_runtime.engines.download import read_manifest
from heavylift_runtime.errors import LoadError

FORMAT = "heavylift.neuron/1"
KEY, MANIFEST, COMPILED = "neuron.json", "manifest.json", "compiled"
_SAMPLES, _SAMPLE = 64, 4096  # of a file of weights: blocks that are hashed, and bytes of each
_WEIGHTS = (".safetensors", ".bin")


def model_digest(folder: Path) -> str:
    """Of config.json and the weights: their names, sizes, and 64 blocks of each. A whole file takes minutes to read."""
    sha256 = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text("utf-8"))
    sha256.update(json.dumps(config, sort_keys=True).encode())
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_WEIGHTS):
            continue
        size = path.stat().st_size
        sha256.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for number in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE) * number // (_SAMPLES - 1))
                sha256.update(file.read(_SAMPLE))
    return sha256.hexdigest()


def finish(folder: Path, key: Mapping[str, Any]) -> None:
    """Say what the folder was made for, and that it is complete."""
    (folder / KEY).write_text(json.dumps({"format": FORMAT, **key}, indent=2, sort_keys=True) + "\n", "utf-8")
    files = [
        {"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    ]
    lines = "".join(f"{file['sha256']}  {file['size']}  {file['path']}\n" for file in files)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    manifest = {"format": "heavylift.manifest/1", "digest": digest, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def check(folder: Path, key: Mapping[str, Any], *, proved: bool = False) -> Path:
    """The compiled files of a folder that was made for this key; `proved`: its files were compared as they came.

    LoadError names every field that differs, and every file that is not as it was written.
    """
    path = folder / KEY
    if not path.is_file():
        raise LoadError(f"{folder} holds nothing that was compiled for Neuron: it has no {KEY}; compile it first")
    if not proved:
        _prove(folder)
    try:
        found = json.loads(path.read_text("utf-8"))
        form = found.pop("format", None)
    except (ValueError, AttributeError) as error:
        raise LoadError(f"{path} is no JSON object: {error}") from error
    if form != FORMAT:
        raise LoadError(f"{path} has the format {form!r}: this version reads {FORMAT!r}")
    if faults := list(_differences(found, key)):
        raise LoadError("\n".join([f"{folder} was compiled for something else; compile it again:", *faults]))
    return folder / COMPILED


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            yield f"{name}: it was made for {json.dumps(found.get(name))}, and {json.dumps(wanted.get(name))} is asked"


def _prove(folder: Path) -> None:
    path = folder / MANIFEST
    if not path.is_file():
        raise LoadError(f"{folder} is not complete: it has no {MANIFEST}; compile it again")
    faults = []
    for entry in read_manifest(path.read_bytes(), str(path)):
        file = folder / entry.path
        if not file.is_file() or file.stat().st_size != entry.size or _sha256(file) != entry.sha256:
            faults.append(f"{file} is not as it was compiled")
    if faults:
        raise LoadError("\n".join([*faults, "copy the folder again, or compile it again"]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
