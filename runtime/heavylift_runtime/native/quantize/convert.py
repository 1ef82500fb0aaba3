"""Writes a plain checkpoint in AWQ's or GPTQ's layout, for whoever has none: each group rounded to the nearest level.

Not AWQ's or GPTQ's methods, which look at activations and lose less: only their files, with a config.json that says so.
Memory for one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.families.packing import EACH, GROUPS, Published
from heavylift_runtime.families.table import Weight
from heavylift_runtime.native.checkpoint import CONFIG, WEIGHTS, Checkpoint
from heavylift_runtime.native.header import SIZES
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partition import belongs
from heavylift_runtime.native.quantize.stored import AWQ, outputs_first
from heavylift_runtime.native.reading import DTYPES, bytes_of
from heavylift_runtime.native.sources import Source
from heavylift_runtime.native.written import Written

SAID = {
    "awq": {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True},
    "gptq": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq", "desc_act": False, "sym": True},
}


def convert(
    source: Source, out: Path, method: str, group: int = 128, report: Callable[[str], None] = lambda line: None
) -> None:
    """Writes `out`, which must not be there: config.json, tokenizer and model.safetensors.

    OptionsError for what is asked, LoadError for the checkpoint. Embedding, head, norms and biases stay as they are.
    """
    if method not in SAID or group not in GROUPS:
        raise OptionsError(f"'{method}' in groups of {group}: use awq or gptq, and {', '.join(map(str, GROUPS))}")
    checkpoint = Checkpoint.open(source)
    if checkpoint.packing is not None or checkpoint.partition is not None:
        raise OptionsError(f"{source.place}: is quantized or partitioned already; name the checkpoint it was made of")
    packing = Published(method, group, method == "gptq", method == "gptq", int(method == "gptq"))
    held = [weight for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
    stored = checkpoint.find(held[0])
    assert stored is not None
    rows = {weight.name: _written(packing, weight, stored.dtype) for weight in held}
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise OptionsError(f"--out {out}: cannot be made: {error.strerror}; name a folder that is not there") from error
    for name in filter(belongs, checkpoint.sizes):
        (out / name).write_bytes(checkpoint.small(name))
    config = {**checkpoint.config, "quantization_config": {**SAID[method], "group_size": group}}
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    dtype = DTYPES[stored.dtype]
    with torch.inference_mode(), Written(out / WEIGHTS) as file, Loader(checkpoint, 0, 1, dtype, report) as loader:
        file.write(_header([row for each in rows.values() for row in each]))
        for weight in held:
            tensor = loader.take(weight.name)
            packed = len(rows[weight.name]) > 1
            parts = _packed(packing, outputs_first(weight, tensor), len(rows[weight.name])) if packed else [tensor]
            for part in parts:
                file.write(bytes_of(part.contiguous().flatten()))
        file.finish()


def _written(packing: Published, weight: Weight, kind: str) -> list[tuple[Weight, str]]:
    if not weight.matrix or weight.head:
        return [(weight, kind)]
    return [(part, "F16" if part.types != ("I32",) else "I32") for part in packing.stored(weight, 1)]


def _packed(packing: Published, weight: Tensor, count: int) -> list[Tensor]:
    """(out, in) → qweight, qzeros, scales, each (in, out) in its own units, and g_idx where there are four."""
    outputs, inputs = weight.shape
    grouped = weight.float().reshape(outputs, inputs // packing.group, packing.group)
    if packing.name == "gptq":  # symmetric: the zero is in the middle
        scale = (grouped.abs().amax(2) / 7.5).half()
        zero = torch.full(scale.shape, 8.0)
    else:
        low, high = grouped.amin(2).clamp(max=0), grouped.amax(2).clamp(min=0)
        scale = ((high - low) / 15).half()
        zero = (-low / scale.float().masked_fill(scale == 0, 1)).round().clamp(0, 15)
    step = scale.float().masked_fill(scale == 0, 1).unsqueeze(2)
    levels = (grouped / step + zero.unsqueeze(2)).round().clamp(0, 15).int().flatten(1)
    order = AWQ if packing.name == "awq" else tuple(range(EACH))
    qzeros = _eights(zero.int().t() - packing.offset, order)  # (groups, out / 8)
    qweight = _eights(levels, order).t() if packing.along_inputs else _eights(levels.t(), order)
    index = (torch.arange(inputs) // packing.group).int()
    return [qweight, qzeros, scale.t(), index][:count]


def _eights(numbers: Tensor, order: tuple[int, ...]) -> Tensor:
    """(R, 8 * C) of 0..15 → (R, C) int32"""
    shifts = torch.tensor(order, dtype=torch.int64) * 4
    total = (numbers.reshape(len(numbers), -1, EACH).long() << shifts).sum(2)
    return torch.where(total >= 2**31, total - 2**32, total).int()


def _header(rows: list[tuple[Weight, str]]) -> bytes:
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for weight, kind in rows:
        size = SIZES[kind]
        for length in weight.shape:
            size *= length
        table[weight.name] = {"dtype": kind, "shape": list(weight.shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 64)
    return len(header).to_bytes(8, "little") + header
