"""What a model asks of an instance: its engine, its number format, the degrees it can be split by, its memory.

Not the choice of the instance: that is instance.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heavylift.errors import InputError
from heavylift.plan import facts, memory
from heavylift.plan.facts import Hardware, InstanceFact
from heavylift.plan.images import hardware_of
from heavylift.plan.lock import Lock
from heavylift.plan.memory import Need, Placing
from heavylift.plan.memory.neuron import neuron_need
from heavylift.plan.memory.vllm import vllm_need
from heavylift.plan.model import OWN_SCHEMES, SCHEMES, ModelFacts
from heavylift.plan.parts import Decision, Memory
from heavylift.plan.validity import engine_faults, loading_bytes
from heavylift.plan.validity.neuron import neuron_degrees, neuron_faults
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import Capabilities, capabilities, engine_for, family_fault
from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Family, shard

SMALL = 2 * memory.GIB  # bytes of weights up to which a CPU answers quickly enough; assumed
DEGREES = (1, 2, 4, 8, 16, 32, 64)
PROMPT_TOKENS = 512  # T5's training length, and what a batch's memory is planned for, where the model has as many
SHARD = 10 * 10**9  # bytes of a checkpoint's file, where nobody has read it: transformers' `max_shard_size` until 4.34
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
        hardware, reason = _hardware(spec, weights_bytes(lock))
        try:
            engine, engine_decision = _engine(spec, lock, hardware)
            family = family_of(_config(lock)) if engine.name in BY_TABLE else None
            faults = [] if family is None else family.faults(_config(lock))
        except (OptionsError, LoadError) as error:
            raise InputError(str(error).splitlines()) from error
        if engine.name in BY_SIZES and hardware != ("cpu",):
            ModelFacts.of(_config(lock))  # whose faults are config.json's
        dtype, dtype_decision = _dtype(spec, lock)
        if dtype not in engine.dtypes:
            faults.append(f"dtype {dtype} is none of engine {engine.name}'s: {', '.join(engine.dtypes)}")
        beside = engine.rounded_in or engine.dtypes
        if spec.quantization != "none" and dtype not in beside and dtype in engine.dtypes:
            faults.append(f"quantization of engine {engine.name} needs dtype {' or '.join(beside)}: got {dtype}")
        if engine.name != "script":
            faults += _stored_faults(spec, engine, _facts(lock))
        if engine.name == "vllm" and hardware == ("cpu",) and spec.pipeline_parallel_degree > 1:
            faults.append("engine vllm has no stages on processors; use pipeline_parallel_degree 1")
        given = str(spec.options.get("max_new_tokens", NEW_TOKENS))
        tokens = int(given) if given.isdecimal() and len(given) < 10 else NEW_TOKENS  # the runtime refuses other values
        prompt = PROMPT_TOKENS if engine.name == "script" else _prompt_tokens(_facts(lock), tokens, faults)
        if faults:
            raise InputError(faults)
        _whole(lock, family)
        runs_on = tuple(name for name in hardware if name in engine.hardware)
        hardware_decision = Decision("hardware", " or ".join(runs_on), "computed", reason)
        decisions = (engine_decision, dtype_decision, hardware_decision)
        needs = _needs(spec, lock, engine.name, family, dtype, prompt, tokens)
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
        model = _facts(self.lock) if fact.hardware == "neuron" else None
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
            model, tokens = _facts(self.lock), self.prompt_tokens + self.new_tokens
            assert model is not None, "vLLM's families are known"
            need = vllm_need(
                model, fact.accelerator, dtype=self.dtype, quantization=self.spec.quantization, tp=degree, tokens=tokens
            )
        elif self.engine.name == "neuronx":
            processes, model = 1, _facts(self.lock)
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
                need, shares = _script_need(self.lock, self.dtype, 1), 1
        loading, formula = loading_bytes(self.engine.name, weights_bytes(self.lock), _largest_file(self.lock))
        on_disk = self.lock.model.weights.bytes if self.family is None or self.spec.enable_network_isolation else 0
        workers = self.spec.serving.workers if copies is None else copies
        return memory.ledger(fact, need, Placing(shares, processes, workers, on_disk, loading, formula))


def _facts(lock: Lock) -> ModelFacts | None:
    """None for an architecture of which the plan knows nothing."""
    try:
        return ModelFacts.of(_config(lock), parameters=lock.model.parameters)
    except InputError:
        return None


def _stored_faults(spec: ModelSpec, engine: Capabilities, model: ModelFacts | None) -> list[str]:
    """A checkpoint's own quantization is what it is served in: the bytes of any other plan would be wrong."""
    if model is None or model.quantized == (None if spec.quantization == "none" else spec.quantization):
        return []
    asked, stored = spec.quantization, model.quantized
    if stored is None:
        lacks = f"quantization: {asked} is read from a checkpoint that has it, and config.json speaks of none"
        made = "; `heavylift quantize` writes one" if asked in ("awq", "gptq") else ""
        return [f"{lacks}; take one that has it{made}"] if asked in OWN_SCHEMES else []
    holds = f"the checkpoint's matrices are quantized: {stored}, by config.json's 'quantization_config'"
    if stored not in engine.quantizations:
        has = ", ".join(engine.quantizations)
        return [f"{holds}; engine {engine.name} has {has}: take another checkpoint, or engine: script"]
    return [f"{holds}; the model file says quantization: {asked}; write quantization: {stored}"]


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


def _needs(
    spec: ModelSpec, lock: Lock, engine: str, family: Family | None, dtype: str, prompt: int, tokens: int
) -> dict[int, Need]:
    """What one rank holds, for each degree that divides the model. Raises InputError when the given one does not."""
    given, partition = spec.tensor_parallel_degree, lock.model.partition
    if partition is not None:
        if given not in ("auto", partition.tensor_parallel_degree):
            raise InputError(
                f"{lock.model.source} was partitioned for tensor_parallel_degree {partition.tensor_parallel_degree}, "
                f"the model file asks for {given}; partition it for {given}, or leave the degree to the plan"
            )
        given = partition.tensor_parallel_degree
    degrees = _usual_degrees(spec, engine) if given == "auto" else (given,)
    config = lock.model.config or {}  # of a script's model there may be none
    known = _facts(lock) if config else None
    refused: dict[int, list[str]] = {}
    for degree in degrees:
        refused[degree] = [] if known is None else engine_faults(engine, known, degree, spec.quantization)
        if family is not None:
            refused[degree] += family.check(config, degree, spec.pipeline_parallel_degree)
    if all(refused.values()):
        raise InputError(refused[degrees[0]])
    if family is None:
        return {degree: _script_need(lock, dtype, degree) for degree in degrees if not refused[degree]}
    element, rows = memory.BYTES_PER_ELEMENT[dtype], spec.serving.batch_size
    model, scheme, drafts = ModelFacts.of(config), SCHEMES[spec.quantization], _drafts(spec, engine)
    return {
        degree: memory.native_need(
            model, _rank_bytes(family, config, degree, element, scheme, drafts), degree, element, rows, prompt, tokens
        )
        for degree in degrees
        if not refused[degree]
    }


def _drafts(spec: ModelSpec, engine: str) -> bool:
    """Whether the native engine guesses tokens, with copies of its matrices (heavylift_runtime/native/drafts.py)."""
    length = str(spec.options.get("speculative_length", "0"))
    return engine == "native" and length.isdecimal() and int(length) > 0


def _usual_degrees(spec: ModelSpec, engine: str) -> tuple[int, ...]:
    """To try where the file gives none: on Neuron those of its type."""
    if engine != "neuronx":
        return DEGREES
    if spec.instance_type == "auto":
        return tuple(sorted({degree for fact in facts.instances().values() for degree in neuron_degrees(fact)}))
    return neuron_degrees(facts.instances()[spec.instance_type])


def _rank_bytes(
    family: Family, config: dict[str, object], degree: int, element: int, scheme: float | None, drafts: bool
) -> int:
    """Weights of the fullest rank; `scheme`: bytes of a quantized matrix's number; `drafts`: with a copy in 8 bits.

    That copy is of what a decoding step multiplies with: all matrices are more than it, where there is an encoder.
    """
    whole = family.bytes_per_rank(config, degree, element)
    if scheme is None and not drafts:
        return whole
    tied = bool(config.get("tie_word_embeddings", True))  # then the head is the table, which stays as it is
    matrices = [each for each in family.weights(config) if each.matrix and not (tied and each.head)]
    numbers = sum(shard(each, degree - 1, degree).elements for each in matrices)
    return whole - (0 if scheme is None else int(numbers * (element - scheme))) + (numbers if drafts else 0)


def _script_need(lock: Lock, dtype: str, ranks: int) -> Need:
    element = memory.BYTES_PER_ELEMENT[dtype]
    stored = memory.BYTES_PER_ELEMENT.get(lock.model.dtype or dtype, element)
    return memory.script_need(weights_bytes(lock) * element // stored, ranks)


def weights_bytes(lock: Lock) -> int:
    """Bytes of the weight files alone."""
    weights = lock.model.weights
    if not weights.files:
        return weights.bytes
    return sum(file.size for file in weights.files if file.path.endswith((".safetensors", ".bin")))


def _largest_file(lock: Lock) -> int:
    return max((file.size for file in lock.model.weights.files), default=min(SHARD, lock.model.weights.bytes))


def _hardware(spec: ModelSpec, weights: int) -> tuple[tuple[Hardware, ...], str]:
    """What to try, in order, and why."""
    if spec.instance_type != "auto":
        fact = facts.instances().get(spec.instance_type)
        assert fact is not None, "the model file's rules refuse types without facts"
        return (fact.hardware,), f"instance_type {fact.type} is given"
    size = f"{weights / 2**20:.1f} MiB of weights"
    if weights <= SMALL:
        return ("cpu", "gpu", "neuron"), f"{size}, at most {SMALL / memory.GIB:g} GiB: a CPU first, assumed"
    return ("gpu", "neuron", "cpu"), f"{size}, over {SMALL / memory.GIB:g} GiB: an accelerator first, assumed"


def _engine(spec: ModelSpec, lock: Lock, hardware: tuple[Hardware, ...]) -> tuple[Capabilities, Decision]:
    if spec.engine != "auto" or spec.code is not None:
        engine = capabilities("script" if spec.engine == "auto" else spec.engine)
        if spec.image is not None and spec.image.dlc is not None:
            engine = replace(engine, hardware=hardware_of(engine, spec.image.dlc.framework))
        if not set(hardware) & set(engine.hardware):
            runs_on = " or ".join(engine.hardware)
            raise OptionsError(
                f"engine {engine.name} runs on {runs_on}; instance_type {spec.instance_type} is {hardware[0]}"
            )
        if spec.engine == "auto":
            return engine, Decision("engine", engine.name, "computed", "the model file has 'code'")
        family = (lock.model.config or {}).get("model_type")
        fault = family_fault(engine, str(family)) if family is not None and engine.name != "native" else None
        if fault is not None:  # the native engine's table says it better
            raise OptionsError(fault)
        return engine, Decision("engine", engine.name, "given", "the model file")
    family = str(_config(lock).get("model_type"))
    refusal: OptionsError | None = None
    for each in hardware:
        try:
            name, why = engine_for(family, each)
        except OptionsError as error:
            refusal = refusal or error
        else:
            return capabilities(name), Decision("engine", name, "computed", why)
    assert refusal is not None
    raise refusal


def _dtype(spec: ModelSpec, lock: Lock) -> tuple[str, Decision]:
    partition = lock.model.partition
    if partition is not None:
        if spec.dtype not in ("auto", partition.dtype):
            raise InputError(
                f"{lock.model.source} was partitioned in {partition.dtype}, the model file asks for {spec.dtype}; "
                f"partition it in {spec.dtype}, or leave the dtype to the plan"
            )
        return partition.dtype, Decision("dtype", partition.dtype, "computed", "the checkpoint was partitioned in it")
    if spec.dtype != "auto":
        return spec.dtype, Decision("dtype", spec.dtype, "given", "the model file")
    if lock.model.dtype in memory.BYTES_PER_ELEMENT:
        return lock.model.dtype, Decision("dtype", lock.model.dtype, "computed", "the checkpoint's own numbers")
    return "fp32", Decision("dtype", "fp32", "assumed", f"the checkpoint says {lock.model.dtype or 'nothing'}")


def _whole(lock: Lock, family: Family | None) -> None:
    """A checkpoint with fewer numbers than its table of weights cannot be loaded; more (copies, unused) can."""
    if family is None or lock.model.parameters is None:
        return
    needed = family.parameters(_config(lock))
    if lock.model.parameters < needed:
        raise InputError(
            f"{lock.model.source} holds {lock.model.parameters} parameters, its config.json describes {needed}: "
            f"the weights are of another model, or files are missing"
        )


def _config(lock: Lock) -> dict[str, object]:
    if lock.model.config is None:
        raise LoadError(f"{lock.model.source} has no config.json; only engine: script can serve it")
    return lock.model.config
