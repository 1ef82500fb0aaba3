"""From a plan and what was measured to the file: coefficients, memory, and each setting beside its prediction.

Not the measuring, and not the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property

from heavylift.calibrate.document import MeasuredFile, Row
from heavylift.calibrate.engine import calibrate, compare
from heavylift.calibrate.machine import Machine
from heavylift.calibrate.measure import HELD_OUT, Peak, held_out
from heavylift.calibrate.memory import MemoryFit
from heavylift.calibrate.observation import Observation
from heavylift.errors import InputError
from heavylift.plan.lock import Lock
from heavylift.plan.memory import BYTES_PER_ELEMENT, Need, native_need
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Calibration, calibration_for
from heavylift.plan.performance.work import Work
from heavylift.plan.plan import Plan
from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Family

LEAST = 8
"""Batches of which coefficients can be fitted."""


@dataclass(frozen=True)
class Study:
    """`machine` None: the observations were recorded on endpoints, and none is held out."""

    plan: Plan
    lock: Lock
    observations: tuple[Observation, ...]
    peaks: tuple[Peak, ...] = ()
    machine: Machine | None = None
    noise: float | None = None

    def result(self, now: datetime) -> MeasuredFile:
        """Raises InputError where too little was seen."""
        if len(self.seen) < LEAST:
            raise InputError(
                f"{len(self.seen)} batches of {self.plan.name} were seen; a fit needs at least {LEAST}: "
                "run its benchmark with one client, or measure here with --local"
            )
        fitted = calibrate(self.seen, self.work, self.plan.dtype, calibration_for(self.plan.engine, None))
        calibration = replace(
            fitted,
            engine=self.plan.engine,
            version="recorded" if self.machine is None else "local",
            accelerators=("cpu",),
            subject=self.plan.weights_digest,
            date=now.date().isoformat(),
            source=f"heavylift calibrate {self.plan.name}",
        )
        memory = self._memory()
        return MeasuredFile(
            name=self.plan.name,
            weights_digest=self.plan.weights_digest,
            engine=self.plan.engine,
            dtype=self.plan.dtype,
            machine=self.machine,
            noise=self.noise,
            measured_at=now.isoformat(timespec="seconds"),
            calibration=calibration,
            memory=None if memory is None else asdict(memory),
            rows=tuple(self._row(calibration, memory, *key) for key in self._settings()),
        )

    @property
    def seen(self) -> list[Observation]:
        """What the fit may see."""
        return [each for each in self.observations if self.machine is None or not held_out(each)]

    @cached_property
    def work(self) -> Work:
        """Of the plan's model in its number format."""
        return Work.of(self.model, self.plan.dtype)

    @cached_property
    def model(self) -> ModelFacts:
        """From config.json and the headers."""
        assert self.lock.model.config is not None, "the native engine's models have one"
        return ModelFacts.of(self.lock.model.config, parameters=self.lock.model.parameters)

    @cached_property
    def family(self) -> Family:
        """The table of the weights."""
        assert self.lock.model.config is not None
        return family_of(self.lock.model.config)

    def needs(self, degree: int, batch: int) -> Need:
        """What the ledger counts for one rank, with the longest prompts and answers that were seen."""
        assert self.lock.model.config is not None
        element = BYTES_PER_ELEMENT[self.plan.dtype]
        per_rank = self.family.bytes_per_rank(self.lock.model.config, degree, element)
        prompt = max(max(each.prompts) for each in self.observations)
        answer = max(max(each.answers) for each in self.observations)
        return native_need(self.model, per_rank, degree, element, batch, prompt, answer)

    def _memory(self) -> MemoryFit | None:
        peaks = [peak for peak in self.peaks if peak.batch not in HELD_OUT]
        return MemoryFit.of(peaks, self.needs) if peaks else None

    def _settings(self) -> Sequence[tuple[int, int]]:
        return sorted({(each.degree, len(each.prompts)) for each in self.observations})

    def _row(self, calibration: Calibration, memory: MemoryFit | None, degree: int, batch: int) -> Row:
        """Over prompts and answers of all lengths that were sent with this degree and batch."""
        chosen = [each for each in self.observations if (each.degree, len(each.prompts)) == (degree, batch)]
        pairs = compare(chosen, self.work, self.plan.dtype, calibration)
        tokens = sum(each.tokens for each in chosen)
        peak = next((peak for peak in self.peaks if (peak.degree, peak.batch) == (degree, batch)), None)
        return Row(
            degree=degree,
            batch=batch,
            held_out=self.machine is not None and batch in HELD_OUT,
            tokens_per_second=round(tokens / sum(each.seconds for each in chosen), 1),
            predicted_tokens_per_second=round(tokens / sum(pair.predicted for pair in pairs), 1),
            bytes=None if peak is None else peak.server + sum(peak.ranks),
            predicted_bytes=None if peak is None or memory is None else int(memory.total(degree, batch, self.needs)),
        )
