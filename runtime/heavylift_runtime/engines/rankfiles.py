"""The files of a model that DeepSpeed split ahead of time: one for each rank, and what they are. Not how it splits.

ds_inference_config.json   DeepSpeed's description: type, tp_size, dtype, and the files
tp_00_00.safetensors       all that rank 0 holds: weights and buffers; tp_01_00.safetensors rank 1's, and so on
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.distributed import Group

DESCRIPTION = "ds_inference_config.json"
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")  # config and tokenizer, as LMI's partition copies them
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class RankFiles:
    """What one rank reads."""

    file: Path
    dtype: torch.dtype

    @classmethod
    def open(cls, folder: Path, name: str, pretrained: Pretrained, group: Group) -> RankFiles:
        """The file of this rank, by the description `name` in the model's folder; LoadError with every fault."""
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise LoadError(f"option.checkpoint must be a file in the model's folder: got {name!r}")
        try:
            said = json.loads(place.read_text("utf-8"))
            kind, size, dtype = str(said["type"]), int(said["tp_size"]), str(said["dtype"])
            file = (place.parent / str(said["checkpoints"]["tp"][group.rank % max(size, 1)])).resolve()
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise LoadError(
                f"option.checkpoint={name} is no description of split weights ({type(error).__name__}: {error}); write "
                "one by loading the whole model with option.save_mp_checkpoint_path"
            ) from error
        faults = []
        if kind != pretrained.config.model_type:
            faults.append(f"{name} is of the model_type {kind!r}, config.json's is {pretrained.config.model_type!r}")
        if size != group.world:
            faults.append(f"{name} is for {size} ranks: set option.tensor_parallel_degree={size}, got {group.world}")
        if dtype not in _DTYPES or pretrained.dtype not in ("auto", _DTYPES[dtype]):
            faults.append(f"{name} is in {dtype}: leave option.dtype out, got {pretrained.dtype}")
        if file.suffix != ".safetensors" or not file.is_relative_to(folder.resolve()) or not file.is_file():
            faults.append(f"{name} names {file.name}, which is no safetensors file of the model's folder")
        if faults:
            raise LoadError("\n".join(faults))
        return cls(file, _DTYPES[dtype])

    def fill(self, model: Any, report: Callable[[str], None]) -> None:
        """Copy every tensor of the file into the split model; LoadError where they are not the same."""
        report(f"weights: reading {self.file.name}")
        own = _tensors(model)
        try:
            with safe_open(self.file, "pt") as read:
                names = set(read.keys())
                if strange := sorted(names ^ own.keys()):
                    raise LoadError(
                        f"{self.file.name} and the split model differ in {len(strange)} tensors: {strange[0]}"
                    )
                for name in names:
                    given = read.get_tensor(name)
                    if given.shape != own[name].shape:
                        raise LoadError(
                            f"{self.file.name} has {name} as {list(given.shape)}, not {list(own[name].shape)}"
                        )
                    own[name].copy_(given)
        except (OSError, SafetensorError) as error:
            raise LoadError(f"cannot read {self.file}: {error}; write it again") from error

    @staticmethod
    def write(model: Any, pretrained: Pretrained, folder: Path, group: Group, report: Callable[[str], None]) -> None:
        """Write this rank's file, and on rank 0, when all have, what they are; LoadError where that cannot be."""
        if "://" in str(folder) or not folder.is_absolute():
            raise LoadError(
                f"option.save_mp_checkpoint_path must be a folder of this machine, from its root: got {folder}"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"tp_{group.rank:02d}_00.safetensors"
            report(f"weights: writing {folder / name}")
            new = folder / f".{name}.new"
            save_file({key: each.detach().cpu().clone() for key, each in _tensors(model).items()}, new)
            new.replace(folder / name)
            group.barrier()
            if group.rank == 0:
                _describe(model, pretrained, folder, group.world)
            group.barrier()
        except OSError as error:
            raise LoadError(f"cannot write option.save_mp_checkpoint_path={folder}: {error}") from error


def _describe(model: Any, pretrained: Pretrained, folder: Path, world: int) -> None:
    for path in (path for kind in _BESIDE for path in Path(pretrained.place).glob(kind)):
        if path.name != DESCRIPTION and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    dtype = next(name for name, each in _DTYPES.items() if each == model.dtype)
    said = {
        "type": pretrained.config.model_type, "base_dir": "", "version": 1.0, "parallelization": "tp",
        "tp_size": world, "dtype": dtype,
        "checkpoints": {"non_tp": [], "tp": [f"tp_{rank:02d}_00.safetensors" for rank in range(world)]},
    }  # fmt: skip
    properties = {
        "engine": "DeepSpeed", "option.entryPoint": "djl_python.deepspeed", "option.checkpoint": DESCRIPTION,
        "option.tensor_parallel_degree": str(world),
    }  # fmt: skip
    (folder / "serving.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    new = folder / f".{DESCRIPTION}.new"
    new.write_text(json.dumps(said, indent=2) + "\n")
    os.replace(new, folder / DESCRIPTION)


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights and buffers, also those that a state dict leaves out; a tensor with two names once for each."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    return weights | dict(model.named_buffers(remove_duplicate=False))
