"""One model of an engine over several ranks: rank 0 in this process, the others beside it. Not the server's ranks."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, continuation, oracle, write_decoder

PROMPTS = [[5, 9, 33, 21, 7, 2], [12], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6]]


def write(folder: Path, kind: str) -> Path:
    """A random checkpoint with a tokenizer; of Qwen3's heads of keys there are two, so that two ranks have one each."""
    family, config = KINDS[kind]
    write_decoder(folder, family, **{**config, "num_key_value_heads": 2} if kind == "qwen3" else config)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


@contextmanager
def loaded(name: str, folder: Path, world: int, **given: str) -> Iterator[Engine]:
    """`given`: option.*; the other ranks end with it, and well where it does."""
    torch.set_num_threads(1)
    meeting = f"file://{folder.parent}/meeting-{folder.name}-{world}-{len(given)}"
    quantize, dtype = given.pop("quantize", "none"), given.pop("dtype", "auto")
    options = replace(Options(engine=name), batch_size=4, tensor_parallel_degree=world, properties=given)
    options = replace(options, quantize=quantize, dtype=dtype)
    command = [sys.executable, "-m", "tests.follower", name, str(folder)]
    others = [
        subprocess.Popen([*command, str(rank), str(world), meeting, json.dumps(given)]) for rank in range(1, world)
    ]
    try:
        engine: Engine = importlib.import_module(ENGINES[name].module).load(options, folder, 0, world, meeting)
        yield engine
        engine.close()
        assert [each.wait(60) for each in others] == [0] * len(others)
    finally:
        for each in others:
            each.kill()
            each.wait()


def greedy(engine: Engine, count: int = 20, prompts: Sequence[Sequence[int]] = PROMPTS) -> list[list[int]]:
    """The engine's answers to all prompts at once."""
    found: list[list[int]] = [[] for _ in prompts]
    for key, prompt in enumerate(prompts):
        engine.add(key, Request(tuple(prompt), Sampling(count)))
    while engine.busy:
        for piece in engine.step():
            assert piece.error is None
            found[piece.key] += [token.id for token in piece.tokens]
    return found


def expected(folder: Path, count: int = 20) -> list[list[int]]:
    """transformers' own."""
    model = oracle(folder)
    return [continuation(model, prompt, count) for prompt in PROMPTS]
