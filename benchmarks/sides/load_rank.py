"""One rank that loads: `python load_rank.py SIDE PLACE RANK WORLD RENDEZVOUS`, told when by a line on its input.

Not the measurement (load.py). Prints `ready`, then seconds, bytes of weights that it holds, peak memory and bytes read.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Load = Callable[[], int]


def counter(field: str, file: str) -> int:
    """A number of this process in /proc: bytes (of `status`, which counts in KiB)."""
    with open(f"/proc/self/{file}", encoding="ascii") as lines:
        value = next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return value * 1024 if file == "status" else value


def heavylift(place: str, rank: int, world: int, rendezvous: str) -> Load:
    from heavylift_runtime.native.checkpoint import Checkpoint
    from heavylift_runtime.native.loader import Loader
    from heavylift_runtime.native.shared_memory import join
    from heavylift_runtime.native.sources import source_of

    source = source_of(place, Path())
    group = join(rank, world, rendezvous)

    def load() -> int:
        checkpoint = Checkpoint.open(source, rank, world)
        with torch.inference_mode(), Loader(checkpoint, rank, world, torch.float32, group=group) as loader:
            names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
            held = [loader.take(name) for name in names]
        return sum(tensor.nbytes for tensor in held)

    return load


def transformers(place: str, *_: object) -> Load:
    from transformers import T5ForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    def load() -> int:
        model = T5ForConditionalGeneration.from_pretrained(place, dtype=torch.float32)
        return sum(bool(each.sum().isfinite()) * each.nbytes for each in model.parameters())  # it is mapped: read it

    return load


def runai(place: str, *_: object) -> Load:
    from runai_model_streamer import SafetensorsStreamer

    def load() -> int:
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(f"{place}model.safetensors")
            held = [tensor.clone() for _, tensor in streamer.get_tensors()]  # its buffer is used again
        return sum(tensor.nbytes for tensor in held)

    return load


SIDES: dict[str, Callable[..., Load]] = {"heavylift": heavylift, "transformers": transformers, "runai": runai}


def main(side: str, place: str, rank: int, world: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    load = SIDES[side](place, rank, world, rendezvous)
    torch.ones(1 << 20).bfloat16().sum().item()  # what torch sets up once
    before, read = counter("VmRSS", "status"), counter("rchar", "io")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): the peak begins anew
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    held = load()
    seconds = time.monotonic() - started
    peak, asked = counter("VmHWM", "status") - before, counter("rchar", "io") - read
    print(json.dumps({"seconds": seconds, "weights": held, "peak": peak, "asked": asked}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
