"""A checkpoint that was partitioned ahead of time: its manifest, proved against the files and against what is asked.

Not the partitioning (partition.py). The format is `heavylift.partition/1` of docs/formats.md: a file for each rank.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.digest import digest_of
from heavylift_runtime.native.header import LIMIT, Stored, read_header
from heavylift_runtime.native.reading import DTYPES, NAMES
from heavylift_runtime.native.sources import Source, whole

MANIFEST = "partition.json"
FORMAT = "heavylift.partition/1"
LARGEST = 16 * 1024 * 1024
"""Bytes of a manifest: far more than the files of any model need."""
AGAIN = "partition the checkpoint again"


@dataclass(frozen=True)
class File:
    """A file of the folder. `header`: its first bytes, with a SHA-256 of their own, where it holds a rank's weights."""

    path: str
    size: int
    sha256: str
    header_size: int | None = None
    header_sha256: str | None = None


@dataclass(frozen=True)
class Partition:
    """What a manifest says; `files` is by path."""

    source_digest: str | None
    model_type: str
    dtype: str
    quantization: str
    """Of the matrices, as `quantize` in options; `none`: they are in `dtype`, too."""
    tensor_parallel_degree: int
    pipeline_parallel_degree: int
    files: Mapping[str, File]
    source_revision: str | None = None
    """`owner/name@commit` of the hub, where it was made of that."""

    def to_json(self) -> str:
        content = {"format": FORMAT, **asdict(self)}
        content["files"] = [
            {key: value for key, value in asdict(file).items() if value is not None} for file in self.files.values()
        ]
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, source: Source, sizes: Mapping[str, int]) -> Partition:
        """The manifest of a folder that has one, after every file's size is proved; LoadError with all that differs."""
        place = f"{source.place} {MANIFEST}"
        if sizes[MANIFEST] > LARGEST:
            raise LoadError(f"{place}: has {sizes[MANIFEST]} bytes; at most {LARGEST} are read")
        try:
            content = json.loads(whole(source, MANIFEST, sizes[MANIFEST]))
            found = content.get("format") if isinstance(content, dict) else None
            if found != FORMAT:
                raise LoadError(f"{place}: format {found!r} is not {FORMAT!r}; {AGAIN} with this version")
            partition = cls._of(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LoadError(f"{place}: is not readable ({error}); {AGAIN}") from error
        faults = [
            f"{source.place} {path}: is missing, though {MANIFEST} lists it"
            if path not in sizes
            else f"{source.place} {path}: has {sizes[path]} bytes, {file.size} by {MANIFEST}; {AGAIN}"
            for path, file in partition.files.items()
            if sizes.get(path) != file.size
        ]
        if faults:
            raise LoadError("\n".join(faults))
        return partition

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Partition:
        """ValueError, KeyError or TypeError where a field is missing or of another kind."""
        files = [
            File(str(f["path"]), _size(f["size"]), str(f["sha256"]), f.get("header_size"), f.get("header_sha256"))
            for f in content["files"]
        ]
        made = cls(
            content["source_digest"],
            str(content["model_type"]),
            str(content["dtype"]),
            str(content.get("quantization", "none")),
            _size(content["tensor_parallel_degree"]),
            _size(content["pipeline_parallel_degree"]),
            {file.path: file for file in files},
            content.get("source_revision"),
        )
        if made.dtype not in NAMES.values():
            raise ValueError(f"dtype {content['dtype']!r} is none of {', '.join(NAMES.values())}")
        for rank in range(made.ranks):
            file = made.files[rank_file(rank, made.ranks)]
            if not 8 < _size(file.header_size) <= min(file.size, LIMIT):
                raise ValueError(f"{file.path!r} has a header of {file.header_size} bytes")
        return made

    @property
    def ranks(self) -> int:
        """As many as there are files of weights."""
        return self.tensor_parallel_degree * self.pipeline_parallel_degree

    def check(self, place: str, config: Mapping[str, Any], tensor: int, pipeline: int) -> None:
        """LoadError where the folder was made for other numbers of ranks and stages, or of another model."""
        faults = [
            f"{place}: is partitioned for {name} {degree}, not {wanted}; set {name} to {degree}, or {AGAIN}"
            for name, degree, wanted in (
                ("tensor_parallel_degree", self.tensor_parallel_degree, tensor),
                ("pipeline_parallel_degree", self.pipeline_parallel_degree, pipeline),
            )
            if wanted != degree
        ]
        if config.get("model_type") != self.model_type:
            faults.append(
                f"{place}: its weights are those of a {self.model_type!r}, its config.json is that of a "
                f"{config.get('model_type')!r}; {AGAIN}"
            )
        if faults:
            raise LoadError("\n".join(faults))

    def tensors(self, source: Source, rank: int) -> Mapping[str, Stored]:
        """A rank's tensors, which are already its parts; LoadError where the header is not the one that was written."""
        file = self.files[rank_file(rank, self.ranks)]
        assert file.header_size is not None
        header = whole(source, file.path, file.header_size)
        if hashlib.sha256(header).hexdigest() != file.header_sha256:
            raise LoadError(f"{source.place} {file.path}: its header is not the one in {MANIFEST}; {AGAIN}")
        return read_header(source, file.path, file.size)

    def check_dtype(self, place: str, dtype: torch.dtype) -> None:
        """LoadError where weights of another type are wanted."""
        wanted = next(name for kind, name in NAMES.items() if DTYPES[kind] == dtype)
        if wanted != self.dtype:
            raise LoadError(
                f"{place}: is partitioned in {self.dtype}, not {wanted}; "
                f"set 'dtype' to {self.dtype!r} or 'auto', or {AGAIN} with --dtype {wanted}"
            )


def rank_file(rank: int, ranks: int) -> str:
    """The name of a rank's file; ranks of one stage are neighbours."""
    return f"rank-{rank:03d}-of-{ranks:03d}.safetensors"


def _size(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a number of at least 1")
    return value


def prove(source: Source, report: Callable[[str], None] = lambda line: None) -> None:
    """Reads every file of a partitioned folder and compares its SHA-256; LoadError names each that differs."""
    sizes = source.files()
    if MANIFEST not in sizes:
        raise LoadError(f"{source.place}: has no {MANIFEST}; it is not a partitioned checkpoint")
    faults = []
    for file in Partition.read(source, sizes).files.values():
        if digest_of(source, file.path, file.size) != file.sha256:
            faults.append(f"{source.place} {file.path}: its SHA-256 is not the one in {MANIFEST}; {AGAIN}")
        report(f"{file.path}: {file.size / 1e6:.1f} MB read")
    if faults:
        raise LoadError("\n".join(faults))
