"""What a model asks of an instance: its engine, its number format, the degrees it can be split by, its memory.

Not the choice of the instance: that is instance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.errors import InputError
from heavylift.plan import facts, memory
from heavylift.plan.facts import Hardware, InstanceFact
from heavylift.plan.lock import Lock
from heavylift.plan.plan import Decision, Memory
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import Capabilities, capabilities, engine_for
from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Family

SMALL = 2 * memory.GIB  # bytes of weights up to which a CPU answers quickly enough; assumed
DEGREES = (1, 2, 4, 8, 16, 32, 64)
NEW_TOKENS = 64  # generated where a request gives no number


@dataclass(frozen=True)
class Demand:
    """`family` is None for a script, of which only the size of its files is known. `element` in bytes."""

    spec: ModelSpec
    lock: Lock
    engine: Capabilities
    family: Family | None
    dtype: str
    hardware: tuple[Hardware, ...]
    new_tokens: int
    decisions: tuple[Decision, ...]

    @classmethod
    def of(cls, spec: ModelSpec, lock: Lock) -> Demand:
        """Raises InputError where no engine serves the model or its numbers."""
        hardware, reason = _hardware(spec, weights_bytes(lock))
        try:
            engine, engine_decision = _engine(spec, lock, hardware)
            family = None if engine.name == "script" else family_of(_config(lock))
            faults = [] if family is None else family.faults(_config(lock))
        except (OptionsError, LoadError) as error:
            raise InputError(str(error).splitlines()) from error
        dtype, dtype_decision = _dtype(spec, lock)
        if dtype not in engine.dtypes:
            faults.append(f"dtype {dtype} is none of engine {engine.name}'s: {', '.join(engine.dtypes)}")
        if faults:
            raise InputError(faults)
        _whole(lock, family)
        given = spec.options.get("max_new_tokens")
        tokens = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else NEW_TOKENS
        runs_on = tuple(name for name in hardware if name in engine.hardware)
        hardware_decision = Decision("hardware", " or ".join(runs_on), "computed", reason)
        return cls(
            spec, lock, engine, family, dtype, runs_on, tokens, (engine_decision, dtype_decision, hardware_decision)
        )

    def degrees(self) -> tuple[int, ...]:
        """Degrees to try, smallest first. Raises InputError when the given one does not divide the model."""
        given = self.spec.tensor_parallel_degree
        if given == "auto":
            return tuple(degree for degree in DEGREES if not self._refused(degree))
        if faults := self._refused(given):
            raise InputError(faults)
        return (given,)

    def memory(self, fact: InstanceFact, degree: int) -> Memory:
        """The ledger on one instance of this type."""
        workers, element = self.spec.serving.workers, memory.BYTES_PER_ELEMENT[self.dtype]
        if self.family is None:
            stored = memory.BYTES_PER_ELEMENT.get(self.lock.model.dtype or self.dtype, element)
            shares = 1 if fact.hardware == "cpu" else degree
            need = memory.script_need(weights_bytes(self.lock) * element // stored, shares)
            return memory.ledger(fact, need, shares, 1, workers)
        config = _config(self.lock)
        per_rank = self.family.bytes_per_rank(config, degree, element)
        rows = self.spec.serving.batch_size
        need = memory.family_need(config, per_rank, degree, element, rows, self.new_tokens)
        return memory.ledger(fact, need, degree, degree, workers)

    def _refused(self, degree: int) -> list[str]:
        if degree > 1 and self.family is not None and not self.engine.tensor_parallel:
            return [f"engine {self.engine.name} has no tensor parallelism; got tensor_parallel_degree {degree}"]
        return [] if self.family is None else self.family.check(_config(self.lock), degree)


def weights_bytes(lock: Lock) -> int:
    """Bytes of the weight files alone."""
    return sum(file.size for file in lock.model.weights.files if file.path.endswith((".safetensors", ".bin")))


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
    if spec.engine != "auto":
        engine = capabilities(spec.engine)
        if not set(hardware) & set(engine.hardware):
            runs_on = " or ".join(engine.hardware)
            raise OptionsError(
                f"engine {engine.name} runs on {runs_on}; instance_type {spec.instance_type} is {hardware[0]}"
            )
        return engine, Decision("engine", engine.name, "given", "the model file")
    if spec.code is not None:
        return capabilities("script"), Decision("engine", "script", "computed", "the model file has 'code'")
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
