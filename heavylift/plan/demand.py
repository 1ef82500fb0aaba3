"""What a model asks of an instance: its engine, its number format, the degrees it can be split by, its memory.

Its parts: checkpoint.py, engine.py, needs.py. Not the choice of the instance: that is instance.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heavylift.errors import InputError
from heavylift.plan import memory
from heavylift.plan.checkpoint import check_whole, config_of, largest_file, model_of, weights_bytes
from heavylift.plan.engine import chosen_dtype, chosen_engine, hardware_to_try, stored_faults
from heavylift.plan.facts import Hardware, InstanceFact
from heavylift.plan.lock import Lock
from heavylift.plan.memory import Need, Placing
from heavylift.plan.memory.neuron import neuron_need
from heavylift.plan.memory.vllm import vllm_need
from heavylift.plan.model import ModelFacts
from heavylift.plan.needs import needs_of, script_need
from heavylift.plan.parts import Decision, Memory
from heavylift.plan.validity import loading_bytes
from heavylift.plan.validity.neuron import neuron_faults
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import Capabilities
from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Family

PROMPT_TOKENS = 512  # T5's training length, and what a batch's memory is planned for, where the model has as many
BY_TABLE = ("native", "fastertransformer")
"""Engines whose ranks hold what the family's table of weights says."""
BY_SIZES = ("vllm", "neuronx")
"""Engines whose memory on accelerators follows from the sizes in config.json, which must be known therefore."""
NEW_TOKENS = 64  # generated where a request gives no number


@dataclass(frozen=True)
class Demand:
    """`family` is None for engines that do not go by its table of weights. `needs` is by degree."""

    spec: ModelSpec
    lock: Lock
    engine: Capabilities
    family: Family | None
    dtype: str
    hardware: tuple[Hardware, ...]
    new_tokens: int
    prompt_tokens: int
    needs: dict[int, Need]
    decisions: tuple[Decision, ...]

    @classmethod
    def of(cls, spec: ModelSpec, lock: Lock) -> Demand:
        """Raises InputError where no engine serves the model or its numbers."""
        hardware, reason = hardware_to_try(spec, weights_bytes(lock))
        try:
            engine, engine_decision = chosen_engine(spec, lock, hardware)
            family = family_of(config_of(lock)) if engine.name in BY_TABLE else None
            faults = [] if family is None else family.faults(config_of(lock))
        except (OptionsError, LoadError) as error:
            raise InputError(str(error).splitlines()) from error
        if engine.name in BY_SIZES and hardware != ("cpu",):
            ModelFacts.of(config_of(lock))  # whose faults are config.json's
        dtype, dtype_decision = chosen_dtype(spec, lock)
        if dtype not in engine.dtypes:
            faults.append(f"dtype {dtype} is none of engine {engine.name}'s: {', '.join(engine.dtypes)}")
        beside = engine.rounded_in or engine.dtypes
        if spec.quantization != "none" and dtype not in beside and dtype in engine.dtypes:
            faults.append(f"quantization of engine {engine.name} needs dtype {' or '.join(beside)}: got {dtype}")
        if engine.name != "script":
            faults += stored_faults(spec, engine, model_of(lock))
        if engine.name == "vllm" and hardware == ("cpu",) and spec.pipeline_parallel_degree > 1:
            faults.append("engine vllm has no stages on processors; use pipeline_parallel_degree 1")
        given = str(spec.options.get("max_new_tokens", NEW_TOKENS))
        tokens = int(given) if given.isdecimal() and len(given) < 10 else NEW_TOKENS  # the runtime refuses other values
        prompt = PROMPT_TOKENS if engine.name == "script" else _prompt_tokens(model_of(lock), tokens, faults)
        if faults:
            raise InputError(faults)
        check_whole(lock, family)
        runs_on = tuple(name for name in hardware if name in engine.hardware)
        hardware_decision = Decision("hardware", " or ".join(runs_on), "computed", reason)
        decisions = (engine_decision, dtype_decision, hardware_decision)
        needs = needs_of(spec, lock, engine.name, family, dtype, prompt, tokens)
        return cls(spec, lock, engine, family, dtype, runs_on, tokens, prompt, needs, decisions)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees to try, smallest first."""
        return tuple(self.needs)

    @property
    def compiled_tokens(self) -> int:
        """Of a prompt and its answer together, where shapes are compiled: as the file says, else as planned for."""
        asked = self.spec.compile
        if asked is not None and asked.sequence_lengths is not None:
            return max(asked.sequence_lengths)
        given = [
            int(part) for part in str(self.spec.options.get("n_positions", "")).split(",") if part.strip().isdigit()
        ]
        return max(given, default=self.prompt_tokens + self.new_tokens)

    def refusals(self, fact: InstanceFact, degree: int) -> list[str]:
        """Why the type's cores cannot share the model so; on other hardware `degrees` holds only those that can."""
        model = model_of(self.lock) if fact.hardware == "neuron" else None
        if model is None:
            return []
        faults = neuron_faults(model, fact, degree, self.spec.quantization)
        if model.positions is not None and self.compiled_tokens > model.positions:
            faults.append(
                f"{self.compiled_tokens} tokens are compiled for, and the model has {model.positions} positions"
            )
        return faults

    @property
    def stages(self) -> int:
        """Of a copy whose every rank is a process of ours; other engines start theirs themselves."""
        return self.spec.pipeline_parallel_degree if self.family is not None else 1

    def memory(self, fact: InstanceFact, degree: int, copies: int | None = None) -> Memory:
        """The ledger on one instance of this type; `copies` None: as many as the model file's workers."""
        need, shares, processes = self.needs[degree], degree, degree * self.stages
        if self.stages > 1:  # weights and cache are divided over the stages; what a pass takes, each takes for itself
            formula = f"{self.stages} stages · ({need.activations_formula})"
            need = replace(need, activations=self.stages * need.activations, activations_formula=formula)
        if self.engine.name == "vllm" and fact.accelerator is not None:
            model, tokens = model_of(self.lock), self.prompt_tokens + self.new_tokens
            assert model is not None, "vLLM's families are known"
            need = vllm_need(
                model, fact.accelerator, dtype=self.dtype, quantization=self.spec.quantization, tp=degree, tokens=tokens
            )
        elif self.engine.name == "neuronx":
            processes, model = 1, model_of(self.lock)
            assert model is not None, "Neuron's families are known"
            need = neuron_need(
                model,
                dtype=self.dtype,
                quantization=self.spec.quantization,
                tp=degree,
                rows=self.spec.serving.batch_size,
                tokens=self.compiled_tokens,
                prompt=self.prompt_tokens,
            )
        elif self.family is None:
            processes = 1
            if fact.hardware == "cpu":  # its one process holds all of the model, whatever the degree
                need, shares = script_need(self.lock, self.dtype, 1), 1
        loading, formula = loading_bytes(self.engine.name, weights_bytes(self.lock), largest_file(self.lock))
        on_disk = self.lock.model.weights.bytes if self.family is None or self.spec.enable_network_isolation else 0
        workers = self.spec.serving.workers if copies is None else copies
        return memory.ledger(fact, need, Placing(shares, processes, workers, on_disk, loading, formula))


def _prompt_tokens(model: ModelFacts | None, tokens: int, faults: list[str]) -> int:
    """Of the longest prompt that is planned for, beside an answer of so many tokens."""
    if model is None or model.encoder_decoder or model.positions is None:
        return PROMPT_TOKENS
    if tokens >= model.positions:
        faults.append(
            f"max_new_tokens is {tokens}, and the model has {model.positions} positions for prompt and answer "
            f"together; set options.max_new_tokens to at most {model.positions - 1}"
        )
    return max(1, min(PROMPT_TOKENS, model.positions - tokens))
