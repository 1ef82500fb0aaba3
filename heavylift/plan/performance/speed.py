"""The time of a prompt, of a decode step, of a token: closed forms over numbers, or over arrays of draws.

Not whether a target is met (throughput.py). Rooflines (Williams et al. 2009) with an engine's coefficients; each form
is stated where it is computed. Times in seconds, sizes in bytes, lengths in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heavylift.plan.performance.coefficients import Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.numbers import Numbers, Value
from heavylift.plan.performance.work import Work

FULL = 0.99
"""The utilization at which the wait is capped: no queue of ours is longer, requests are refused instead."""


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
        rows = np.maximum(np.asarray(rows, dtype=np.float64) / self.stages, 1.0)
        return self.decode(rows, rows * self.work.cache_bytes(prompt, generated))

    def decode(self, rows: Numbers, cached: Value) -> Value:
        """The same for one micro-batch, whose rows have so many bytes of cache, over all ranks together."""
        work, device, own = self.work, self.device, self.coefficients
        moved = work.read_bytes(rows) / self.degree + cached / min(self.degree, work.kv_parts)
        memory = moved / (device.bandwidth * own.memory)
        compute = 2 * work.step_parameters * rows / (self.degree * device.flops * own.compute)
        sums = work.step_reductions * work.step_layers * self.all_reduce(rows * work.hidden * work.activation_bytes)
        return np.maximum(memory, compute) + sums + own.step * work.step_layers + own.row * rows

    def per_token(self, rows: Value, request: Request) -> Value:
        """Time per output token x of a row: a step, and the prompts that join meanwhile, in steady state.

        `rows` clients are answered every first + answer · x seconds, so that rows · x / (first + answer · x) prompts
        join during a token: x = step + prompt · rows · x / (first + answer · x), of which this is the positive root.
        """
        own = self.coefficients
        rows = np.asarray(rows, dtype=np.float64)
        step, prompt = self.step(rows, request.prompt, request.answer / 2), self.prompt(request.prompt)
        first = prompt * (1 + own.crowd * rows) + self.begin
        half = (request.answer * step + prompt * rows - first) / 2
        return (half + np.sqrt(half**2 + request.answer * step * first)) / request.answer

    def first_token(self, rows: Value, request: Request, busy: Value = 0.0) -> Value:
        """Time to the first token when `rows` clients send again at once (busy = 0), or at a utilization `busy` < 1 by
        prompts that come when they please, which adds an M/D/1 queue's wait: busy / (2 (1 - busy)) prompts."""
        own = self.coefficients
        wait = np.where(np.asarray(busy) > 0, queue(busy), own.crowd * rows)
        return self.prompt(request.prompt) * (1 + wait) + self.begin + self.step(rows, request.prompt, 1)

    @property
    def begin(self) -> Value:
        """Seconds of a request before its first step, beside the arithmetic of its prompt."""
        return self.coefficients.prompt * self.work.prompt_layers + self.coefficients.request

    def cycle(self, rows: Value, request: Request) -> Value:
        """Seconds that a row is with the engine when `rows` are, always."""
        return request.answer * self.per_token(rows, request) + self.prompt(request.prompt) + self.begin

    def busy(self, rate: Value, rows: Value, request: Request) -> Value:
        """Share of the time in which the next prompt has to wait, when prompts come at `rate` a second."""
        return rate * self.prompt(request.prompt)


class Batches(Speed):
    """An engine that answers one batch after another: its rows begin together, and no row joins."""

    def per_token(self, rows: Value, request: Request) -> Value:
        """A step."""
        return self.step(rows, request.prompt, request.answer / 2)

    def first_token(self, rows: Value, request: Request, busy: Value = 0.0) -> Value:
        """All prompts of the batch, and a step; at a utilization `busy` also the wait for the batch before (M/D/1)."""
        alone = self.reading(rows, request.prompt) + self.step(rows, request.prompt, 1)
        return alone + queue(busy) * self.cycle(rows, request)

    def cycle(self, rows: Value, request: Request) -> Value:
        """The whole batch."""
        return self.reading(rows, request.prompt) + request.answer * self.per_token(rows, request)

    def reading(self, rows: Value, tokens: float) -> Value:
        """All prompts of a batch, each with what it takes beside its arithmetic, and the request around them."""
        each = self.prompt(tokens) + self.coefficients.prompt * self.work.prompt_layers
        return rows * each + self.coefficients.request

    def busy(self, rate: Value, rows: Value, request: Request) -> Value:
        """Share of the time in which a batch runs."""
        return rate * self.cycle(rows, request) / rows


def queue(busy: Value) -> Value:
    """Mean wait of an M/D/1 queue, in services (Pollaczek and Khinchine): busy / (2 (1 - busy))."""
    share = np.minimum(busy, FULL)
    return np.asarray(share / (2 * (1 - share)), dtype=np.float64)
