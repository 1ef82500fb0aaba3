"""Partitions a checkpoint ahead of time: a file of weights for each rank, and a manifest, written last.

Not the loading of what it writes (partitioned.py), and no rank runs here: it needs a CPU, and memory for one tensor
and a rank's part of it. A run that ends early leaves no manifest; the next one into the same folder begins anew.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.families.table import Weight, shard
from heavylift_runtime.native.checkpoint import LAYOUTS, Checkpoint
from heavylift_runtime.native.digest import ENDINGS, PUSHED, source_digest
from heavylift_runtime.native.header import SIZES
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partitioned import MANIFEST, File, Partition, rank_file
from heavylift_runtime.native.quantize.stored import PACKINGS, outputs_first, rounded
from heavylift_runtime.native.reading import DTYPES, NAMES, bytes_of
from heavylift_runtime.native.sources import Folder, Source
from heavylift_runtime.native.written import Written, check_room, folder

Report = Callable[[str], None]


@dataclass(frozen=True)
class Piece:
    """A weight of the table on its way: what is read of it, and what is written, with safetensors' type of each."""

    weight: Weight
    read: tuple[Weight, ...]
    written: tuple[tuple[Weight, str], ...]


@dataclass(frozen=True)
class Place:
    """A rank: part `part` of `parts` of the weights that its stage holds, by their names in the table."""

    part: int
    parts: int
    held: frozenset[str]


def partition(
    source: Source,
    out: Path,
    degree: int,
    dtype: str = "auto",
    report: Report = lambda line: None,
    quantize: str = "none",
    stages: int = 1,
) -> None:
    """Writes `out`: the weights of `degree` ranks of each stage, in `dtype` (auto: as stored), and the manifest.

    Config and tokenizer are copied beside them.
    `quantize`: what matrices are rounded to; those that are stored quantized stay as they are.
    OptionsError for what is asked, LoadError for the checkpoint; `out` then has no manifest, and can be used again.
    """
    if MANIFEST in source.files():
        raise OptionsError(f"{source.place}: is partitioned already; name the checkpoint that it was made of")
    checkpoint = Checkpoint.open(source)
    for name, asked in (("--tensor-parallel-degree", degree), ("--pipeline-parallel-degree", stages)):
        if asked < 1:
            raise OptionsError(f"{name} is {asked}; it must be at least 1")
    if faults := checkpoint.family.check(checkpoint.config, degree, stages):
        raise OptionsError(faults)
    checkpoint.agree(degree)
    kind = _kind(checkpoint, dtype)
    pieces = _pieces(checkpoint, degree, kind, quantize)
    held = [_held(checkpoint, Stage(number, stages)) for number in range(stages)]
    places = [Place(part, degree, names) for names in held for part in range(degree)]
    beside = [name for name in sorted(checkpoint.sizes) if belongs(name)]
    with folder(out, {*(rank_file(rank, len(places)) for rank in range(len(places))), *beside}):
        check_room(out, sum(_header(pieces, place, {})[1] for place in places))  # before all of the source is read
        digest = source_digest(source, checkpoint.sizes)
        origin = digest or source.revision or secrets.token_hex(32)
        marks = [{"source": origin, "rank": f"{rank} of {len(places)}"} for rank in range(len(places))]
        headers, sizes = zip(*(_header(pieces, *pair) for pair in zip(places, marks, strict=True)), strict=True)
        files = _write_ranks(checkpoint, pieces, out, places, headers, DTYPES[kind], report, quantize)
        files += [_write(out / name, checkpoint.small(name)) for name in beside]
        model_type = str(checkpoint.config["model_type"])
        packing = PACKINGS.get(quantize, checkpoint.packing)
        form = "none" if packing is None else packing.name
        listed = {file.path: file for file in files}
        made = Partition(digest, model_type, NAMES[kind], form, degree, stages, listed, source.revision)
        _write(out / MANIFEST, made.to_json().encode())
    for rank, place in enumerate(places):
        Checkpoint.open(Folder(out), place.part, degree, Stage.holding(rank, degree, stages)).agree()
    report(f"partition: {out} has {len(places)} ranks of up to {max(sizes) / 1e6:.1f} MB in {NAMES[kind]}")


def _pieces(checkpoint: Checkpoint, degree: int, kind: str, quantize: str) -> list[Piece]:
    """The weights that the checkpoint holds, in the table's order."""
    pieces = []
    for weight in checkpoint.family.weights(checkpoint.config):
        read = checkpoint.stored(weight, degree)
        found = [checkpoint.find(part) for part in read]
        if None in found:  # its stand-in is used
            continue
        if quantize in PACKINGS and weight.matrix:
            written = [(part, part.types[0]) for part in PACKINGS[quantize].stored(weight, degree)]
        elif read == (weight,):
            written = [(weight, "F32" if weight.wide and kind == "F16" else kind)]
        else:
            written = [(part, stored.dtype) for part, stored in zip(read, found, strict=True) if stored is not None]
        pieces.append(Piece(weight, read, tuple(written)))
    return pieces


def _write_ranks(
    checkpoint: Checkpoint,
    pieces: Sequence[Piece],
    out: Path,
    places: Sequence[Place],
    headers: Sequence[bytes],
    dtype: torch.dtype,
    report: Report,
    quantize: str,
) -> list[File]:
    """Every rank's file at once, so that each tensor is read once."""
    with ExitStack() as stack:
        ranks = [stack.enter_context(Written(out / rank_file(rank, len(places)))) for rank in range(len(places))]
        for rank, header in zip(ranks, headers, strict=True):
            rank.write(header)
        with torch.inference_mode(), Loader(checkpoint, 0, 1, dtype, report, quantize) as loader:
            for piece in pieces:
                tensors = [loader.take(part.name) for part in piece.read]
                for place, rank in zip(places, ranks, strict=True):
                    if piece.weight.name not in place.held:
                        continue
                    parts = [_part(*pair, place) for pair in zip(tensors, piece.read, strict=True)]
                    if piece.written[0][0] != piece.read[0]:
                        form = rounded(quantize, piece.weight, outputs_first(piece.weight, parts[0]))
                        parts = [getattr(form, field.name) for field in fields(form)]
                    for part in parts:
                        rank.write(bytes_of(part.flatten()))
        return [
            replace(rank.finish(), header_size=len(header), header_sha256=hashlib.sha256(header).hexdigest())
            for rank, header in zip(ranks, headers, strict=True)
        ]


def _write(path: Path, content: bytes) -> File:
    with Written(path) as file:
        file.write(content)
        return file.finish()


def _part(tensor: Tensor, weight: Weight, place: Place) -> Tensor:
    """A rank's part of a whole tensor, contiguous: a copy only where it is a part of each row."""
    part = shard(weight, place.part, place.parts)
    return tensor[tuple(map(slice, part.start, part.stop))].contiguous()


def _held(checkpoint: Checkpoint, stage: Stage) -> frozenset[str]:
    return frozenset(weight.name for weight in checkpoint.table(stage))


def _header(pieces: Sequence[Piece], place: Place, mark: Mapping[str, str]) -> tuple[bytes, int]:
    """A rank's safetensors header, and the size of its file: all shapes are known before a weight is read.

    `mark`: as in no other header, so that a load, which proves headers only, takes no other file for this one.
    """
    table: dict[str, Any] = {"__metadata__": {"format": "pt", **mark}}
    end = 0
    held = [piece for piece in pieces if piece.weight.name in place.held]
    for weight, kind in (written for piece in held for written in piece.written):
        part = shard(weight, place.part, place.parts)
        start, end = end, end + part.elements * SIZES[kind]
        table[weight.name] = {"dtype": kind, "shape": list(part.shape), "data_offsets": [start, end]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 64)  # so that numbers lie at multiples of their size, and of a cache line
    return len(header).to_bytes(8, "little") + header, 8 + len(header) + end


def _kind(checkpoint: Checkpoint, dtype: str) -> str:
    """safetensors' name of the type that is written."""
    kind = checkpoint.dtype if dtype == "auto" else {name: kind for kind, name in NAMES.items()}.get(dtype)
    if kind not in NAMES:
        known = ", ".join(map(repr, NAMES.values()))
        raise OptionsError(
            f"--dtype is {dtype!r}, the weights are {checkpoint.dtype}; it must be 'auto' or one of {known}"
        )
    return kind


def belongs(name: str) -> bool:
    """Whether a file is copied along: config and tokenizer, but no weights and nothing that lists files."""
    listing = name in (PUSHED, MANIFEST) or name in [layout.index for layout in LAYOUTS]
    return name.endswith(ENDINGS) and "/" not in name and not listing
