"""The cells in which the native engine is held against transformers, and what is found in one. Not the tests.

A cell is a kind of model, a tensor- and a pipeline-parallel degree, and a form in which the checkpoint lies. Some of
them meet all pairs of values; `make test-matrix` takes all.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder
from tests import decoder_checkpoints, t5_checkpoints
from tests.native_cores import answers_of, core_of, forced_logits, model_on
from tests.rank_pool import Pool

T5S: dict[str, dict[str, Any]] = {
    "flan-t5": {},
    "first-t5": {"tied": True, "feed_forward_proj": "relu"},
    "t5-six-heads": {"num_heads": 6, "d_kv": 5, "vocab_size": 62},
    "t5-wide-heads": {"d_kv": 16, "feed_forward_proj": "gated-silu", "num_decoder_layers": None},
    "t5-tied-gated": {"tied": True, "vocab_size": 63},
}
KINDS = (*T5S, *decoder_checkpoints.KINDS)
FORMS = ("safetensors", "bin", "ahead")
STAGES = (1, 2)
CLOSE = 1e-4
"""Two logits nearer than this are a tie, which rounding decides; and so near are all logits to transformers'."""
COUNT = 20


class Cell(NamedTuple):
    kind: str
    tensor: int
    pipeline: int
    form: str


def degrees(kind: str) -> tuple[int, int, int]:
    """1, 2 and 4; of six heads 1, 2 and 3."""
    return (1, 2, 3) if "six-heads" in kind else (1, 2, 4)


WHOLE = [Cell(kind, *rest) for kind in KINDS for rest in product(degrees(kind), STAGES, FORMS)]
PAIRS = [
    Cell(kind, degree, STAGES[(place + number // 3) % 2], FORMS[(place + number) % 3])
    for number, kind in enumerate(KINDS)
    for place, degree in enumerate(degrees(kind))
] + [Cell("bloom-six-heads", 3, 1, "safetensors")]
"""Each kind at each degree, on one and on two stages, in each form; and all pairs of these."""


@dataclass(frozen=True)
class Expected:
    """What transformers says of a kind's checkpoint."""

    folder: Path
    prompts: list[list[int]]
    forced: Tensor
    logits: Tensor
    """(B, T, V) after each of the forced tokens"""
    tokens: list[list[int]]
    gaps: list[list[float]]
    """For each prompt, at each of its tokens, how far the two likeliest are apart."""


@dataclass(frozen=True)
class Agreement:
    """What was found in a cell: the largest difference of a logit, and prompts that part at a near-tie."""

    difference: float
    ties: int


class Oracle:
    """Checkpoints, and transformers' answers, made once for each kind."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder, self._pool = folder, pool
        self.expected = cache(self._expected)
        self._bin = cache(self._as_bin)

    @torch.inference_mode()
    def _expected(self, kind: str) -> Expected:
        generator = torch.Generator().manual_seed(KINDS.index(kind))
        lengths = torch.randint(1, 24, (4,), generator=generator).tolist()
        prompts = [torch.randint(2, 60, (length,), generator=generator).tolist() for length in lengths]
        forced = torch.randint(2, 60, (4, 7), generator=generator)
        folder = self._folder / kind
        if kind in T5S:
            t5_checkpoints.write_t5(folder, **T5S[kind])
            model: Any = t5_checkpoints.oracle(folder)
            prompts, forced = [[*prompt, 1] for prompt in prompts], torch.cat([forced[:, :1] * 0, forced], 1)
            logits = torch.stack(
                [
                    model(input_ids=torch.tensor([prompt]), decoder_input_ids=row.unsqueeze(0)).logits[0]
                    for prompt, row in zip(prompts, forced, strict=True)
                ]
            )
        else:
            family, config = decoder_checkpoints.KINDS[kind]
            decoder_checkpoints.write_decoder(folder, family, **config)
            model = decoder_checkpoints.oracle(folder)
            texts = [[*prompt, *row] for prompt, row in zip(prompts, forced.tolist(), strict=True)]
            logits = torch.stack([decoder_checkpoints.logits_of(model, text)[-forced.shape[1] :] for text in texts])
        tokens, gaps = zip(*(_greedy(model, prompt, encodes=kind in T5S) for prompt in prompts), strict=True)
        return Expected(folder, prompts, forced, logits, list(tokens), list(gaps))

    def _as_bin(self, kind: str) -> Path:
        source, folder = self.expected(kind).folder, self._folder / f"{kind}-bin"
        shutil.copytree(source, folder)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        return folder

    def agreement(self, cell: Cell) -> Agreement:
        """AssertionError where the engine and transformers part, or the ranks among themselves."""
        expected = self.expected(cell.kind)
        folder = self._bin(cell.kind) if cell.form == "bin" else expected.folder
        if cell.form == "ahead":
            folder = self._folder / "-".join(map(str, cell))
            partition(Folder(expected.folder), folder, cell.tensor, stages=cell.pipeline)
        arguments = str(folder), expected.prompts, expected.forced.tolist()

        ranks = self._pool.run(cell.tensor, cell.pipeline, answer, *arguments)

        logits, tokens, digest = ranks[0]
        assert all(rank[1:] == (tokens, digest) for rank in ranks), "the ranks differ"
        found = torch.frombuffer(bytearray(logits), dtype=torch.float32).view(expected.logits.shape)
        torch.testing.assert_close(found, expected.logits, atol=CLOSE, rtol=CLOSE)
        ties = 0
        for own, theirs, gaps in zip(tokens, expected.tokens, expected.gaps, strict=True):
            if own != theirs:
                place = next(place for place, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1])
                assert gaps[place] < CLOSE, f"{own} is not {theirs}"
                ties += 1
        return Agreement(float((found - expected.logits).abs().max()), ties)


def answer(mesh: Mesh, folder: str, prompts: list[list[int]], forced: list[list[int]]) -> tuple[bytes, Any, str]:
    """On every rank: the logits on rank 0, greedy tokens, and the logits' digest."""
    model = model_on(Path(folder), mesh.group, stage=mesh.stage)
    logits = forced_logits(model, prompts, torch.tensor(forced), mesh)[1].contiguous().numpy().tobytes()
    answers = answers_of(core_of(model, mesh=mesh), prompts, [COUNT] * len(prompts))
    own = logits if mesh.everyone.rank == 0 else b""
    return own, [each.tokens for each in answers], hashlib.sha256(logits).hexdigest()


def _greedy(model: Any, prompt: list[int], *, encodes: bool) -> tuple[list[int], list[float]]:
    """transformers' greedy tokens of one prompt alone, the end among them, and the gap at each."""
    ids = torch.tensor([prompt])
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=COUNT, do_sample=False, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = found.sequences[0, 1 if encodes else len(prompt) :].tolist()
    pairs = [row[0].float().topk(2).values.tolist() for row in found.logits]
    return tokens, [first - second for first, second in pairs]
