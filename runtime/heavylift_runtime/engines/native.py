"""The native engine behind the seam of engine.py: loads a checkpoint on every rank, and keeps the ranks in step.

Not a server and not a model: it turns prompts into tokens on rank 0, tells the others, and turns tokens into text.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from heavylift_runtime.engines.cores import threads
from heavylift_runtime.engines.engine import Engine, Piece, Request, Token
from heavylift_runtime.errors import LoadError, PromptError, RuntimeFault
from heavylift_runtime.families.mixtral import Mixtral
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.alarm import Interrupted
from heavylift_runtime.native.alike import prove_alike
from heavylift_runtime.native.architectures import model_of
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.kernels.library import said
from heavylift_runtime.native.lane import Progress
from heavylift_runtime.native.limits import Limits, request_fault, sampling_fault, tokens_fault
from heavylift_runtime.native.loader import DTYPES, Loader
from heavylift_runtime.native.memory import free
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.news import Arrival, News, hear, tell
from heavylift_runtime.native.place import HOST, Placed, check_float8, device_of, within
from heavylift_runtime.native.replay import recorder_of
from heavylift_runtime.native.sampling import Chosen
from heavylift_runtime.native.sources import source_of
from heavylift_runtime.native.stream import Stream
from heavylift_runtime.native.text import Markers, Text, rules_of, unread
from heavylift_runtime.native.wish import Wish
from heavylift_runtime.options import Options

NAMES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> Engine:
    """This rank's engine, loaded and in step with the others; LoadError says what does not fit.

    The checkpoint is proved before the ranks meet, so that a bad one is refused by each of them at once.
    """
    started = time.monotonic()
    tensor, pipeline = options.tensor_parallel_degree, options.pipeline_parallel_degree
    assert world == tensor * pipeline, f"{world} ranks for degrees {tensor} and {pipeline}"
    stage, part = Stage.holding(rank, tensor, pipeline), rank % tensor
    source = source_of(options.model_id, model_dir, options.properties.get("revision"))
    checkpoint = Checkpoint.open(source, part, tensor, stage)
    if faults := checkpoint.family.check(checkpoint.config, tensor, pipeline):
        raise LoadError("\n".join(faults))
    checkpoint.agree()
    wish = Wish.of(options.properties)
    device = device_of(rank, world, options.workers)
    if options.quantize == "fp8":
        check_float8(device)
    wish.check(device)
    dtype = _dtype(options.dtype, checkpoint)
    held = _held(checkpoint, options, dtype)
    rounded = options.quantize if checkpoint.packing is None else checkpoint.packing.name
    steady = not isinstance(checkpoint.family, Mixtral)  # whose tokens choose what is computed
    invariant = options.batch_invariant
    guesses = 0
    if device == HOST:
        guesses = wish.guesses(dtype, rounded, held, invariant=invariant, stages=pipeline, steady=steady)
    markers = Markers.of(checkpoint)
    text = Text(checkpoint) if rank == 0 else None
    if (count := threads(world * options.workers, held)) is not None:
        torch.set_num_threads(count)
    report(f"checkpoint: {checkpoint.source.place} is sound, {len(checkpoint.tensors)} tensors")
    rules = rules_of(checkpoint, options.properties, options.engine)
    if names := unread(checkpoint.generation()):
        report(f"generation_config.json: {', '.join(names)} not followed; requests and options say it where they can")
    report(f"kernels: {said()}")
    report(f"device: {device}")
    mesh = Mesh.join(rank, tensor, pipeline, rendezvous, device)
    prove_alike(mesh.everyone, checkpoint)
    with (
        torch.inference_mode(),
        within(device),
        Loader(checkpoint, part, tensor, dtype, report, options.quantize, mesh.group) as loader,
    ):
        model = model_of(checkpoint.config, loader if device == HOST else Placed(loader, device), mesh.group)
    mesh.everyone.barrier()
    report(f"model: ready on rank {rank} of {world} after {time.monotonic() - started:.2f} s")
    own = torch.tensor([int(wish.share * free(device)) // (world * options.workers if device == HOST else 1)])
    budget = int(mesh.everyone.all_gather(own).min())
    copied = guesses > 0 and wish.copied(dtype, rounded) and (wish.drafted is not None or held <= budget)
    copies = held // dtype.itemsize if copied else 0  # of each number one in 8 bits
    if copies > 0 and copies >= budget:
        raise LoadError(
            f"'speculative_length' takes {copies / 1e9:.1f} GB more on each rank, for copies in 8 bits, of which each "
            f"may have {budget / 1e9:.1f} GB: leave it out, or take a machine with more memory"
        )
    if guesses:
        further = f", and with copies in 8 bits of at most {copies / 1e6:.0f} MB" if copied else ""
        report(f"speculative_length: up to {guesses}, from what the text repeats{further}")
    limits = Limits.of(model, options.max_model_len)
    with torch.inference_mode():
        core = Core(
            model,
            markers.start,
            markers.ends,
            options.capacity,
            budget - copies,
            limits,
            invariant=invariant,
            mesh=mesh,
            rules=rules,
            record=recorder_of(device, eager=wish.eager, compiles=wish.compiles) if steady else None,
            drafted=guesses,
            copied=copied,
        )
    return NativeEngine(core, text, mesh, options.capacity)


def _dtype(wanted: str, checkpoint: Checkpoint) -> torch.dtype:
    """What the engine computes in: as asked for, or as the embedding is stored."""
    dtype = DTYPES[checkpoint.dtype] if wanted == "auto" else NAMES.get(wanted)
    if dtype not in NAMES.values():
        raise LoadError(
            f"'dtype' is {wanted!r} and the weights are {checkpoint.dtype}: the native engine computes in "
            f"{', '.join(map(repr, NAMES))}; set one of them"
        )
    assert dtype is not None
    return dtype


def _held(checkpoint: Checkpoint, options: Options, dtype: torch.dtype) -> int:
    """Bytes of weights on a rank, about: stages are alike."""
    tensor, pipeline = options.tensor_parallel_degree, options.pipeline_parallel_degree
    return checkpoint.family.bytes_per_rank(checkpoint.config, tensor, dtype.itemsize, checkpoint.tensors) // pipeline


class NativeEngine:
    """One rank of a loaded model."""

    def __init__(self, core: Core, text: Text | None, mesh: Mesh, capacity: int) -> None:
        """`text`: on rank 0 only."""
        self._core, self._text, self._mesh, self.capacity = core, text, mesh, capacity
        self._group = mesh.everyone
        self._broken: str | None = None
        self._arrived: list[Arrival] = []
        self._gone: list[int] = []
        self._refused: list[Piece] = []
        self._streams: dict[int, Stream] = {}

    @property
    def busy(self) -> bool:
        return bool(self._core.busy or self._core.again or self._arrived or self._gone or self._refused)

    def load(self) -> dict[str, float]:
        """For /metrics (steps.py)."""
        return self._core.load

    def add(self, key: int, request: Request) -> None:
        """Queues a request; PromptError where it cannot be served, a piece with an error where memory never fits it."""
        prompt, sampling = self._tokens(request), request.sampling
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        arrival = Arrival(key, tuple(prompt), sampling, seed)
        sequence = self._core.sequence(arrival)
        if not self._core.scheduler.fits(sequence):
            sentence = (
                f"a prompt of {len(prompt)} tokens and {sampling.max_new_tokens} new ones take more memory than there "
                "is for all requests together; send less"
            )
            self._refused.append(Piece(key, (), None, len(prompt), 0, (507, sentence)))
            return
        assert self._text is not None
        self._streams[key] = Stream(self._text.decode, sequence.text if not sequence.source else (), sampling.stop)
        self._arrived.append(arrival)

    def cancel(self, key: int) -> None:
        """Forgets a request; unknown keys are ignored."""
        if self._streams.pop(key, None) is None:
            self._refused = [piece for piece in self._refused if piece.key != key]
        elif any(arrival.key == key for arrival in self._arrived):
            self._arrived = [arrival for arrival in self._arrived if arrival.key != key]
        else:
            self._gone.append(key)

    def step(self) -> list[Piece]:
        """One step of all that runs; RuntimeFault when a rank is lost."""
        if self._broken is not None:
            raise RuntimeFault(f"the ranks are out of step since {self._broken}; start the worker again")
        pieces, self._refused = self._refused, []
        if not self.busy:
            return pieces
        again = [arrival for arrival in self._core.again if arrival.key not in self._gone]
        news = News((*again, *self._arrived), tuple(self._gone))
        self._arrived, self._gone = [], []
        try:
            with torch.inference_mode():
                progress = self._told(news)
        except (RuntimeError, MemoryError) as error:
            self._broken = f"{type(error).__name__}: {error}"
            raise RuntimeFault(f"the step failed: {error}") from error
        return pieces + [piece for each in progress if (piece := self._piece(each)) is not None]

    def _told(self, news: News) -> list[Progress]:
        """One step, of which all ranks know."""
        self._core.know(news)
        try:
            tell(self._group, news, busy=self._core.busy)
        except (Interrupted, MemoryError) as error:
            if isinstance(error, MemoryError) and not self._core.busy:
                raise  # the others sleep, and hear no alarm
            return self._core.recover(error)
        return self._core.step(news)

    def follow(self) -> None:
        """Runs rank 0's steps until it closes; RuntimeFault when it is gone without a word."""
        try:
            with torch.inference_mode():
                while True:
                    try:
                        news = hear(self._group, busy=self._core.busy)
                    except (Interrupted, MemoryError) as error:
                        self._core.recover(error)
                        continue
                    if news is None:
                        break
                    self._core.step(news)
        except RuntimeError as error:  # gloo's only type of error
            raise RuntimeFault(f"rank {self._group.rank} stops, for another rank is gone: {error}") from error
        self._mesh.close()

    def close(self) -> None:
        """Lets the followers return; those that are gone already are no fault here."""
        if self._broken is None:
            with suppress(RuntimeError):
                tell(self._group, None, busy=self._core.busy)
        self._mesh.close()

    def _tokens(self, request: Request) -> list[int]:
        """The prompt's tokens; PromptError where it cannot be served."""
        assert self._text is not None, "requests are rank 0's; the others follow"
        limits = self._core.limits
        if fault := request_fault(request, limits) or sampling_fault(request.sampling, self._core.slots):
            raise PromptError(fault)
        prompt = self._text.encode([request.prompt])[0] if isinstance(request.prompt, str) else list(request.prompt)
        if fault := tokens_fault(prompt, request.sampling.max_new_tokens, self._core.words, limits):
            raise PromptError(fault)
        return prompt

    def _piece(self, progress: Progress) -> Piece | None:
        """New tokens as text; None for a sequence that nobody waits for any more."""
        sequence, reason = progress.sequence, progress.finish_reason
        stream = self._streams.get(sequence.key)
        if stream is None:
            return None
        tokens = []
        for place, chosen in enumerate(progress.chosen, 1):
            last = reason is not None and place == len(progress.chosen)
            text = stream.end() if last and reason == "eos_token" else stream.add(chosen.token, last=last)
            tokens.append(Token(chosen.token, text, chosen.logprob, self._named(chosen)))
            if stream.stopped:
                if reason is None:
                    self._gone.append(sequence.key)
                reason = "stop_sequence"
                break
        if reason is not None or progress.error is not None:
            del self._streams[sequence.key]
        prompt = len(sequence.source) or sequence.given
        # of several tokens, those after a stop sequence are none of the answer's
        generated = len(tokens) + (0 if sequence.width > 1 else sequence.generated - len(progress.chosen))
        return Piece(sequence.key, tuple(tokens), reason, prompt, generated, progress.error)

    def _named(self, chosen: Chosen) -> tuple[tuple[int, str, float], ...]:
        """The likeliest tokens with their texts."""
        assert self._text is not None
        return tuple((token, self._text.word(token), logprob) for token, logprob in chosen.top)
