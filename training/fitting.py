"""The training loop of the tiny models: AdamW, a linear warm-up and decline, a line of progress every 200 steps.

Not the models, their data or their losses: those are train_tiny_llama.py and train_tiny_t5.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor


def arguments(purpose: str | None, name: str, steps: int) -> argparse.Namespace:
    """`--out` (models/NAME), `--steps`, `--batch`, `--seed`."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models" / name)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def fit(
    model: torch.nn.Module,
    losses: Iterator[Tensor],
    accuracy: Callable[[], dict[str, float]],
    *,
    steps: int,
    rate: float,
    warmup: int,
) -> None:
    """Take `steps` of `losses`, each computed when it is asked for. The rate rises over `warmup`, then falls to 2 %."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, max(0.02, (steps - s) / (steps - warmup)))
    )
    print(f"{parameters(model):,} parameters", flush=True)
    started = time.monotonic()
    for step, loss in enumerate(itertools.islice(losses, steps), start=1):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 200 == 0:
            shares = {task: round(share, 3) for task, share in accuracy().items()}
            print(f"{step} {time.monotonic() - started:.0f}s loss {loss.item():.4f} {shares}", flush=True)


def parameters(model: torch.nn.Module) -> int:
    """Their number; tied ones once."""
    return sum(each.numel() for each in model.parameters())


def result(model: torch.nn.Module, given: argparse.Namespace, started: float, accuracy: dict[str, float]) -> str:
    """One JSON object: what was trained, how long it took since `started` (monotonic seconds), how good it is."""
    seconds = round(time.monotonic() - started)
    said = {"parameters": parameters(model), "steps": given.steps, "seed": given.seed, "seconds": seconds}
    return json.dumps(said | {"exact_match_unseen": accuracy})
