"""The time of a prompt, of a decode step, of a token: closed forms over numbers, or over arrays of draws.

Not whether a target is met (throughput.py). Rooflines (Williams et al. 2009) with an engine's coefficients; each form
is stated where it is computed. Times in seconds, sizes in bytes, lengths in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heavylift.plan.performance.coefficients import Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.numbers import Value
from heavylift.plan.performance.work import Work


@dataclass(frozen=True)
class Request:
    """One prompt and its answer, in tokens; means over the traffic."""

    prompt: float
    answer: float


@dataclass(frozen=True)
class Speed:
    """One copy of a model over `degree` tensor-parallel ranks, in each of `stages` pipeline stages."""

    work: Work
    device: Device
    degree: int
    coefficients: Coefficients
    stages: int = 1

    def all_reduce(self, size: Value) -> Value:
        """latency · alpha(n) + 2 (n - 1) / n · size / (bandwidth · bus(n))"""
        if self.degree == 1:
            return 0.0
        between, own = self.device.collective(self.degree), self.coefficients
        share = 2 * (self.degree - 1) / self.degree
        return own.latency * between.alpha_us * 1e-6 + share * size / (own.bandwidth * between.bus_gbps * 1e9)

    def prompt(self, tokens: float) -> Value:
        """prompt FLOPs / (n · F · compute) + all-reduces of tokens · hidden: one prompt's share of the device."""
        work = self.work
        compute = work.prompt_flops(tokens) / (self.degree * self.device.flops * self.coefficients.compute)
        sums = work.prompt_reductions * work.prompt_layers
        return compute + sums * self.all_reduce(tokens * work.hidden * work.activation_bytes)

    def step(self, rows: Value, prompt: float, generated: float) -> Value:
        """max(bytes / (n · BW · memory), FLOPs / (n · F · compute)) + all-reduces + step · layers + row · rows

        `generated`: tokens that each row has generated so far. Rows of several stages are in as many micro-batches.
        """
        work, device, own = self.work, self.device, self.coefficients
        rows = np.maximum(np.asarray(rows, dtype=np.float64) / self.stages, 1.0)
        cache = rows * work.cache_bytes(prompt, generated) / min(self.degree, work.kv_parts)
        moved = work.read_bytes(rows) / self.degree + cache
        memory = moved / (device.bandwidth * own.memory)
        compute = 2 * work.step_parameters * rows / (self.degree * device.flops * own.compute)
        sums = work.step_reductions * work.step_layers * self.all_reduce(rows * work.hidden * work.activation_bytes)
        return np.maximum(memory, compute) + sums + own.step * work.step_layers + own.row * rows

    def per_token(self, rows: Value, request: Request) -> Value:
        """Time per output token x of a row: a step, and the prompts that join meanwhile, in steady state.

        `rows` clients are answered every first + answer · x seconds, so that rows · x / (first + answer · x) prompts
        join during a token: x = step + prompt · rows · x / (first + answer · x), of which this is the positive root.
        """
        work, own = self.work, self.coefficients
        rows = np.asarray(rows, dtype=np.float64)
        step, prompt = self.step(rows, request.prompt, request.answer / 2), self.prompt(request.prompt)
        first = prompt * (1 + own.crowd * rows) + own.prompt * work.prompt_layers + own.request
        half = (request.answer * step + prompt * rows - first) / 2
        return (half + np.sqrt(half**2 + request.answer * step * first)) / request.answer

    def first_token(self, rows: Value, request: Request, busy: Value = 0.0) -> Value:
        """Time to the first token when `rows` clients send again at once (busy = 0), or at a utilization `busy` < 1 by
        prompts that come when they please, which adds an M/D/1 queue's wait: busy / (2 (1 - busy)) prompts."""
        own = self.coefficients
        alone = self.prompt(request.prompt)
        wait = np.where(np.asarray(busy) > 0, np.asarray(busy) / (2 * (1 - np.minimum(busy, 0.999))), own.crowd * rows)
        begin = own.prompt * self.work.prompt_layers + own.request
        return alone * (1 + wait) + begin + self.step(rows, request.prompt, 1)
