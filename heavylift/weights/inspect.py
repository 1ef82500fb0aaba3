"""Inspects a model where it lies and makes its lock. Not the push, which reads the same bytes again and compares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.workload import packed
from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import FORMAT, Files, Lock, LockedModel, Weights
from heavylift.serving.code import read_code
from heavylift.serving.prompt import read_prompt
from heavylift.spec import ModelSpec
from heavylift.weights.headers import read_headers
from heavylift.weights.hub import Hub
from heavylift.weights.partition import read_partition
from heavylift.weights.store import Folder, Prefix, Store

LARGEST_CONFIG = 1 << 20  # bytes
TORCH_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

Progress = Callable[[int, int], None]
"""Called with the bytes that are done, and all."""


def silent(done: int, total: int) -> None:
    """No progress is shown."""


def inspect(spec: ModelSpec, spec_dir: Path, client: Any = None, progress: Progress = silent) -> Lock:
    """Read the whole model once; on the hub, whose files have their hashes beside them, only headers and small files.

    `client`: boto3's for S3, needed for `model.s3` only.
    Raises InputError with every file that is missing, truncated or damaged.
    """
    store = store_of(spec, spec_dir, client)
    sizes = store.files()
    headers = read_headers(store, sizes)
    config = _config(store, sizes)
    files = hashed(store, sizes, progress)
    aside = beside(spec, spec_dir)
    partition = read_partition(store, sizes)
    stated = None if config is None else config.get("dtype", config.get("torch_dtype"))
    model = LockedModel(
        source=str(spec.model),
        revision=spec.model.revision,
        config=config,
        weights=Weights(digest(files), sum(file.size for file in files), files),
        dtype=TORCH_DTYPES.get(str(stated)) if headers.dtype is None else headers.dtype,
        parameters=headers.parameters if partition is None else None,
        tensor_bytes=headers.tensor_bytes if partition is None else None,
        partition=partition,
    )
    return Lock(FORMAT, model, **aside)


def beside(spec: ModelSpec, spec_dir: Path) -> dict[str, Any]:
    """The lock's parts about what lies beside the model file: the code folder, templates, the benchmark's prompts."""
    code = None if spec.code is None else _files(read_code(spec_dir / spec.code))
    templates = read_prompt(spec.prompt, spec_dir)
    return {"code": code, "prompt": _files(templates) if templates else None, "workload": _dataset(spec, spec_dir)}


def _files(contents: dict[str, bytes]) -> Files:
    entries = tuple(File.of(path, content) for path, content in contents.items())
    return Files(digest(entries), entries)


def _dataset(spec: ModelSpec, spec_dir: Path) -> dict[str, Any] | None:
    """The benchmark's own prompts, whole: they travel with the gate. Raises InputError for a file that lies outside the
    model file's folder, has bad lines, or is too large for that."""
    asked = None if spec.benchmark is None else spec.benchmark.workload
    if asked is None or isinstance(asked, str) or asked.dataset is None:
        return None
    file = spec_dir / asked.dataset
    if not file.resolve().is_relative_to(spec_dir.resolve()):
        raise InputError(f"the dataset {asked.dataset} leads out of {spec_dir}; put the file itself there")
    try:
        return packed(asked.dataset, file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the dataset {file}: {error.strerror or error}") from error
    except FormatError as error:
        raise InputError(error.faults) from error


def store_of(spec: ModelSpec, spec_dir: Path, client: Any = None) -> Store:
    """Where the model file says that the model lies."""
    if spec.model.path is not None:
        return Folder(spec_dir / spec.model.path)
    if spec.model.s3 is not None:
        assert client is not None, "a model in S3 is read with a client"
        return Prefix(spec.model.s3, client)
    assert spec.model.id is not None and spec.model.revision is not None, "a model has exactly one source"
    return Hub(spec.model.id, spec.model.revision)


def hashed(store: Store, sizes: dict[str, int], progress: Progress = silent) -> tuple[File, ...]:
    """The files' entries; those in the hub's LFS are not read, the hub says their SHA-256. Raises InputError."""
    done, total, files = 0, sum(sizes.values()), []
    for name in sizes:
        if isinstance(store, Hub) and (known := store.sha256(name)) is not None:
            files.append(File(name, sizes[name], known))
            done += sizes[name]
            progress(done, total)
            continue
        sha256, size = hashlib.sha256(), 0
        for chunk in store.read(name):
            sha256.update(chunk)
            size += len(chunk)
            progress(done + size, total)
        if size != sizes[name]:
            raise InputError(f"{store.title}: {name} changed while it was read; run the command again")
        done += size
        files.append(File(name, size, sha256.hexdigest()))
    return tuple(files)


def _config(store: Store, sizes: dict[str, int]) -> dict[str, Any] | None:
    name = "config.json"
    if name not in sizes:
        return None
    try:
        if sizes[name] > LARGEST_CONFIG:
            raise ValueError("too large")
        config = json.loads(b"".join(store.read(name)), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{store.title.rstrip('/')}/{name} is not JSON: {error}; download it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{store.title.rstrip('/')}/{name} must be a JSON object; download it again")
    return config


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
