"""The parallel plans of an instance type for one model and engine, and what a copy can hold. Not how good they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heavylift.errors import InputError
from heavylift.plan.demand import Demand
from heavylift.plan.facts import InstanceFact
from heavylift.plan.instance import VCPUS_PER_RANK
from heavylift.plan.lock import Lock
from heavylift.plan.memory import GIB
from heavylift.plan.memory.native import PASS_TOKENS
from heavylift.plan.memory.vllm import GRAPHS, batching, budget
from heavylift.plan.model import BYTES, ModelFacts
from heavylift.plan.performance.speed import Request
from heavylift.plan.search.candidate import Option
from heavylift.plan.search.estimate import ONE_BATCH_AFTER_ANOTHER
from heavylift.plan.search.room import room
from heavylift.plan.validity import precision_faults, splits
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import ENGINES


@dataclass(frozen=True)
class Subject:
    """A model with an engine and a number format. `demand` is None for an engine that is not planned byte by byte."""

    model: ModelFacts
    engine: str
    dtype: str
    quantization: str
    digest: str
    batch_size: int
    demand: Demand | None

    @classmethod
    def of(cls, spec: ModelSpec, lock: Lock, engine: str | None = None) -> Subject:
        """`engine`: another one of the registry than the model file's. Raises InputError with every fault."""
        if engine is not None and engine not in ENGINES:
            raise InputError(f"there is no engine '{engine}'; the registry has {', '.join(ENGINES)}")
        if lock.model.config is None:
            raise InputError(f"{lock.model.source} has no config.json: nothing is known of its sizes")
        free = spec.model_copy(update={"tensor_parallel_degree": "auto", "instance_type": "auto"})
        demand = None if engine is not None else Demand.of(free, lock)
        name = engine if demand is None else demand.engine.name
        assert name is not None
        if name == "script":
            raise InputError("nothing is known of a script's speed; give measured profiles, or name another engine")
        dtype = lock.model.dtype if demand is None else demand.dtype
        model = ModelFacts.of(lock.model.config, parameters=lock.model.parameters)
        if model.family not in ENGINES[name].families and "any" not in ENGINES[name].families:
            raise InputError(f"engine {name} does not have the family '{model.family}'")
        return cls(
            model,
            name,
            dtype if dtype in BYTES else "fp32",
            spec.quantization,
            lock.model.weights.digest,
            spec.serving.batch_size,
            demand,
        )

    @property
    def joins(self) -> bool:
        """Rows join a running batch."""
        return self.engine not in ONE_BATCH_AFTER_ANOTHER

    def options(self, fact: InstanceFact) -> Iterator[tuple[Option, tuple[str, ...]]]:
        """Every split, with as many copies as the instance has room for, and the faults of each."""
        if fact.hardware not in ENGINES[self.engine].hardware:
            return
        if fact.accelerator is not None and (
            faults := precision_faults(self.dtype, self.quantization, fact.accelerator)
        ):
            return
        valid, _ = splits(self.engine, self.model, fact, self.quantization)
        for split in valid:
            ranks = fact.vcpus // VCPUS_PER_RANK if fact.accelerator is None else fact.devices
            copies = ranks // split.devices
            if copies < 1:
                continue
            option = Option(fact, self.engine, self.dtype, self.quantization, split, copies)
            if fact.accelerator is None:
                faults = self._host_faults(option)
                while faults and option.copies > 1:
                    option = Option(fact, self.engine, self.dtype, self.quantization, split, option.copies - 1)
                    faults = self._host_faults(option)
                yield option, tuple(faults)
            else:
                yield option, ()

    def rows(self, option: Option, request: Request) -> int:
        """Prompts of this size in one copy's batch; 0 where not even one fits."""
        if option.fact.accelerator is None:
            return self.batch_size
        most, _ = room(self.model, option, request)
        return most if self.joins and self.engine != "native" else min(most, self.batch_size)

    def cache_tokens(self, option: Option, tokens: int) -> int:
        """Tokens in one copy's paged cache, for sequences of about so many."""
        if self.engine == "native":  # the plan's ledger has room for all of them at once
            return self.batch_size * (tokens + 1)
        assert option.fact.accelerator is not None and self.engine == "vllm"
        split = option.split
        found = budget(
            self.model,
            option.fact.accelerator,
            dtype=self.dtype,
            quantization=self.quantization,
            tp=split.tp,
            pp=split.pp,
        )
        each = self.model.cache_bytes(tokens, tp=split.tp, pp=split.pp, kv_dtype=self.dtype) / tokens
        return int(max(0, found.cache - GRAPHS) / each)

    def batching(self, option: Option) -> tuple[int, int]:
        """Sequences and tokens of one iteration: the model file's and the native engine's, or vLLM's defaults."""
        if self.engine == "native":
            return self.batch_size, PASS_TOKENS
        assert option.fact.accelerator is not None
        return batching(option.fact.accelerator)

    def _host_faults(self, option: Option) -> list[str]:
        """Of a processor's memory."""
        if self.demand is None:
            return [f"engine {self.engine} is not planned on processors"]
        degree = option.split.tp
        if degree not in self.demand.needs:
            return [f"degree {degree} does not divide the model"]
        found = self.demand.memory(option.fact, degree, option.copies)
        missing = found.missing("host")
        return [f"{missing / GIB:.2f} GiB of host memory are missing"] if missing else []
