"""A Hugging Face checkpoint: its config, and where each of its tensors lies. All is proved before a weight is read.

Not the loader (loader.py), and it holds no tensors. Where a folder has both, safetensors go before PyTorch's .bin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.packing import Packing, packing_of
from heavylift_runtime.families.stages import WHOLE, Stage
from heavylift_runtime.families.table import Family, Shard, Weight, shard
from heavylift_runtime.manner import FILE
from heavylift_runtime.native.header import Stored, index_of, read_header
from heavylift_runtime.native.partitioned import MANIFEST as PARTITION
from heavylift_runtime.native.partitioned import Partition
from heavylift_runtime.native.quantize.stored import PACKINGS
from heavylift_runtime.native.reading import NAMES, Reading
from heavylift_runtime.native.sources import Source, whole
from heavylift_runtime.native.torch_bin import read_archive

MANIFEST, CONFIG, TOKENIZER = "manifest.json", "config.json", "tokenizer.json"
WEIGHTS = "model.safetensors"
SMALL = 64 * 1024 * 1024
"""Bytes; config and tokenizer are read whole and are never this large."""
SHOWN = 20
"""Faults in one message; a checkpoint of another model has thousands."""


@dataclass(frozen=True)
class Layout:
    """How a kind of checkpoint is laid out in files."""

    single: str
    index: str
    suffix: str
    read: Callable[[Source, str, int], Mapping[str, Stored]]


LAYOUTS = (
    Layout(WEIGHTS, f"{WEIGHTS}.index.json", ".safetensors", read_header),
    Layout("pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", read_archive),
)


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; `tensors` is by name."""

    source: Source
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    """SHA-256 from the manifest, where there is one."""
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    partition: Partition | None = None
    """Where it was partitioned ahead of time: then `tensors` are one rank's, and already its parts."""
    rank: int = 0
    world: int = 1
    packing: Packing | None = None
    """How its quantized matrices lie there, where it has any."""
    stage: Stage = WHOLE

    @classmethod
    def open(cls, source: Source, rank: int = 0, world: int = 1, stage: Stage = WHOLE) -> Checkpoint:
        """Reads the manifest, config.json and every header of weights; LoadError names what is wrong.

        `rank` of `world` is who will load it, of the ranks that share `stage`; where the checkpoint is not partitioned
        only the stage matters, and that in what is to be loaded.
        """
        sizes = source.files()
        digests = _check_manifest(source, sizes)
        if PARTITION not in sizes:
            config = _json(source, CONFIG, _small(source, CONFIG, sizes, digests))
            tensors = _tensors(source, sizes, digests)
            return cls(source, sizes, digests, config, tensors, None, rank, world, packing_of(config), stage)
        partition = Partition.read(source, sizes)
        digests = {**digests, **{file.path: file.sha256 for file in partition.files.values()}}
        config = _json(source, CONFIG, _small(source, CONFIG, sizes, digests))
        partition.check(source.place, config, world, stage.of)
        tensors = partition.tensors(source, stage.number * world + rank)
        packing = PACKINGS.get(partition.quantization, packing_of(config))
        return cls(source, sizes, digests, config, tensors, partition, rank, world, packing, stage)

    def check_quantize(self, wanted: str) -> None:
        """LoadError where what is stored cannot be what is wanted."""
        there = self.packing.name if self.packing is not None else "none"
        fitting = {"none": ["none"], "int8": ["int8", "dynamic_int8"], "int4": ["int4"], "fp8": ["fp8"]}.get(
            there, [there, "none"]
        )
        if there == "none" and self.partition is None:
            fitting = ["none", *PACKINGS]
        if wanted not in fitting:
            raise LoadError(
                f"{self.source.place}: its matrices are stored {'plain' if there == 'none' else 'in ' + there}, and "
                f"'quantize' is {wanted!r}; it can be {' or '.join(map(repr, fitting))}"
            )

    @property
    def family(self) -> Family:
        return family_of(self.config)

    @property
    def dtype(self) -> str:
        """safetensors' name of the type of its plain tensors: the embedding's, or that of its partition."""
        if (partition := self.partition) is not None:
            return next(kind for kind, name in NAMES.items() if name == partition.dtype)
        embedding = self.find(next(iter(self.family.weights(self.config))))
        assert embedding is not None
        return embedding.dtype

    @cached_property
    def _weights(self) -> list[Weight]:
        """The family's table; of a large model it takes longer to write down than a header to read."""
        return list(self.family.weights(self.config))

    def table(self, stage: Stage | None = None) -> list[Weight]:
        """The family's weights on a stage, its own where none is given; stand-ins are where those are that use them."""
        stage, table = self.stage if stage is None else stage, self._weights
        held = {weight.name for weight in table if stage.holds(weight.where)}
        used = {
            weight.stand_in
            for weight in table
            if weight.stand_in is not None
            and weight.name in held
            and self.find(self.stored(weight, self.world)[0]) is None
        }
        return [weight for weight in table if weight.name in held | used]

    def small(self, name: str) -> bytes:
        """A small file whole, proved against the manifest."""
        return _small(self.source, name, self.sizes, self.digests)

    def generation(self) -> Mapping[str, Any]:
        """generation_config.json over config.json, as the tokens that begin and end an answer are looked up."""
        name = "generation_config.json"
        return {**self.config, **(_json(self.source, name, self.small(name)) if name in self.sizes else {})}

    def manner(self) -> Mapping[str, Any]:
        """The one of manner.py's files that counts."""
        return _json(self.source, FILE, self.small(FILE)) if FILE in self.sizes else self.config

    def find(self, weight: Weight) -> Stored | None:
        """Where a weight of the table lies, under its own name or that of a copy; None: its stand-in is used."""
        return next(iter(self._all(weight)), None)

    def readings(self, weight: Weight, rank: int, world: int) -> list[Reading]:
        """A rank's part of a stored weight, and of each further tensor for it: published files hold up to two."""
        assert self.partition is None or (rank, world) == (self.rank, self.world), "the checkpoint is another rank's"
        part, (first, *others) = shard(weight, rank, world), self._all(weight)
        if self.partition is not None:
            return [Reading(first, Shard((0,) * len(first.shape), first.shape))]
        others = [other for other in others if replace(other, name=first.name) != first]  # in a .bin: one storage
        return [Reading(stored.viewed(weight.viewed), part) for stored in (first, *others)]

    def _shape(self, weight: Weight) -> tuple[int, ...]:
        """That of the tensor in the files."""
        return weight.shape if self.partition is None else shard(weight, self.rank, self.world).shape

    def _all(self, weight: Weight) -> list[Stored]:
        return [self.tensors[name] for name in (weight.name, *weight.copies) if name in self.tensors]

    def stored(self, weight: Weight, world: int) -> tuple[Weight, ...]:
        """The tensors that stand for a weight of the family's table: it, or what it is packed into."""
        plain = any(name in self.tensors for name in (weight.name, *weight.copies))
        if self.packing is None or not weight.matrix or plain:
            return (weight,)
        packed = self.packing.stored(weight, world)
        return packed if weight.stand_in is None or packed[0].name in self.tensors else (weight,)

    def agree(self, world: int | None = None) -> list[Weight]:
        """The stage's table as it is stored, after all tensors are proved: none missing, misshapen or unknown.

        Of a partitioned checkpoint, those of the rank's own file.
        """
        family, world = self.family, self.world if world is None else world
        proved = self.table(WHOLE if self.partition is None else self.stage)
        table = [part for weight in proved for part in self.stored(weight, world)]
        faults = []
        for weight in table:
            stored = self.find(weight)
            if stored is None and weight.stand_in is None:
                faults.append(f"tensor {weight.name!r} of shape {list(weight.shape)} is missing")
            for name in (weight.name, *weight.copies):
                there = self.tensors.get(name)
                if there is not None and there.shape != self._shape(weight):
                    shapes = f"has shape {list(there.shape)}, {list(self._shape(weight))} by config.json"
                    faults.append(f"{there.file}: tensor {name!r} {shapes}")
                if there is not None and there.dtype not in weight.types:
                    types = ", ".join(weight.types)
                    faults.append(f"{there.file}: tensor {name!r} is {there.dtype}; known are {types}")
        known = {name for weight in table for name in (weight.name, *weight.copies)} | set(family.ignored(self.config))
        faults += [
            f"{stored.file}: tensor {name!r} is none of {family.title}'s"
            for name, stored in self.tensors.items()
            if name not in known
        ]
        if faults:
            more = [f"and {len(faults) - SHOWN} more such faults"] if len(faults) > SHOWN else []
            raise LoadError("\n".join([f"{self.source.place}: {fault}" for fault in faults[:SHOWN]] + more))
        return [part for weight in self.table() for part in self.stored(weight, world)]


def _check_manifest(source: Source, sizes: Mapping[str, int]) -> dict[str, str]:
    """The digests of a `heavylift.manifest/1`, after its files' sizes are proved; empty without a manifest."""
    if MANIFEST not in sizes:
        return {}
    manifest = _json(source, MANIFEST, _small(source, MANIFEST, sizes, {}))
    if manifest.get("format") != "heavylift.manifest/1":
        raise LoadError(f"{source.place} {MANIFEST}: format {manifest.get('format')!r} is not 'heavylift.manifest/1'")
    try:
        listed = {str(f["path"]): (int(f["size"]), str(f["sha256"])) for f in manifest["files"]}
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{source.place} {MANIFEST}: its 'files' have no path, size and sha256 each") from error
    faults = [
        f"{source.place} {path}: is missing, though {MANIFEST} lists it"
        if path not in sizes
        else f"{source.place} {path}: has {sizes[path]} bytes, {size} by {MANIFEST}; push the weights again"
        for path, (size, _) in listed.items()
        if sizes.get(path) != size
    ]
    if faults:
        raise LoadError("\n".join(faults))
    return {path: digest for path, (_, digest) in listed.items()}


def _small(source: Source, name: str, sizes: Mapping[str, int], digests: Mapping[str, str]) -> bytes:
    if name not in sizes:
        raise LoadError(f"{source.place}: there is no {name}; a checkpoint has {CONFIG}, {TOKENIZER} and {WEIGHTS}")
    if sizes[name] > SMALL:
        raise LoadError(f"{source.place} {name}: has {sizes[name]} bytes; at most {SMALL} are read")
    content = whole(source, name, sizes[name])
    if name in digests and hashlib.sha256(content).hexdigest() != digests[name]:
        raise LoadError(f"{source.place} {name}: its SHA-256 is not the one in {MANIFEST}; push the weights again")
    return content


def _json(source: Source, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{source.place} {name}: is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise LoadError(f"{source.place} {name}: holds a {type(value).__name__}, not an object")
    return value


def _tensors(source: Source, sizes: Mapping[str, int], digests: Mapping[str, str]) -> Mapping[str, Stored]:
    """All tensors of a single file, or of the files that an index names."""
    layout = next((layout for layout in LAYOUTS if layout.index in sizes or layout.single in sizes), None)
    if layout is None:
        known = ", ".join(f"{layout.single} or {layout.index}" for layout in LAYOUTS)
        raise LoadError(f"{source.place}: has no weights; a checkpoint has {known}")
    if layout.index not in sizes:
        return layout.read(source, layout.single, sizes[layout.single])
    index = index_of(_small(source, layout.index, sizes, digests), layout.index, layout.suffix)
    missing = sorted(set(index.values()) - set(sizes))
    if missing:
        raise LoadError(f"{source.place}: {layout.index} names {', '.join(missing)}, which is not there")
    found: dict[str, Stored] = {}
    faults = []
    for file in sorted(set(index.values())):
        for name, stored in layout.read(source, file, sizes[file]).items():
            if index.get(name) != file:
                faults.append(f"{file}: tensor {name!r} is in this file, in {index.get(name)!r} by {layout.index}")
            found[name] = stored
    faults += [
        f"{index[name]}: tensor {name!r} is missing, though {layout.index} lists it"
        for name in index
        if name not in found
    ]
    if faults:
        raise LoadError("\n".join(faults[:SHOWN]))
    return found
