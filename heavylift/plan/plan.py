"""Plan: one model file with every `auto` answered; frozen, printable, with a JSON form.

Not the answering: that is fit.py. Nothing here reads a file, a clock or a network, and no account is in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from heavylift.errors import InputError
from heavylift.plan.parts import (
    Alternative,
    Benchmark,
    Decision,
    Gate,
    Instance,
    Job,
    Memory,
    Model,
    Part,
    Performance,
    Serving,
    Variant,
)

if TYPE_CHECKING:
    from heavylift.plan.lock import Lock
    from heavylift.plan.performance.coefficients import Calibration
    from heavylift.spec import ModelSpec

FORMAT: Literal["heavylift.plan/1"] = "heavylift.plan/1"
BENCHMARK_FORMAT = "heavylift.benchmark/1"


@dataclass(frozen=True)
class Plan(Part):
    """Everything that synthesis, rendering and pushing need to know of one model.

    `properties` are serving.properties' keys and values in order. `environment` is the model file's own: what names
    the account's bucket, and the properties' OPTION_* form, are added where the container is defined. `benchmark` is
    None, and so is `gate_digest`, where the file has no benchmark: such a model is deployed without a gate.
    `performance` is None where the model's operations or the device's speed are not known. `job` is None where ranks
    load the model's own files.
    """

    format: Literal["heavylift.plan/1"]
    name: str
    description: str | None
    model: Model
    engine: str
    dtype: str
    quantization: str
    tensor_parallel_degree: int
    pipeline_parallel_degree: int
    instance: Instance
    memory: Memory
    serving: Serving
    variant: Variant
    enable_network_isolation: bool
    properties: tuple[tuple[str, str], ...]
    environment: dict[str, str]
    tags: dict[str, str]
    weights_digest: str
    config_digest: str
    benchmark: Benchmark | None
    gate: Gate
    gate_digest: str | None
    decisions: tuple[Decision, ...]
    performance: Performance | None
    alternatives: tuple[Alternative, ...]
    job: Job | None = None

    @classmethod
    def fit(cls, spec: ModelSpec, lock: Lock, calibrations: Sequence[Calibration] = (), *, wide: bool = False) -> Plan:
        """Answer every `auto` of `spec`; pure. Raises InputError with every reason why it does not fit.

        `calibrations` are measurements that come before the fact tables' own; synthesis gives none. `wide`: among the
        alternatives are those of engines that this version cannot run, which takes a second.
        """
        from heavylift.plan.fit import fit  # fit.py builds a Plan

        return fit(spec, lock, calibrations, wide=wide)

    @property
    def weights_prefix(self) -> str:
        """Key prefix of the model's files in the weight bucket."""
        return f"weights/{self.weights_digest}/"

    @property
    def served_prefix(self) -> str:
        """Key prefix of the weights that the container loads: split ahead of time, or the model's own files."""
        return self.job.prefix if self.job is not None and self.job.kind == "partition" else self.weights_prefix

    @property
    def config_prefix(self) -> str:
        """Key prefix of the rendered options and the user's code in the weight bucket."""
        return f"config/{self.config_digest}/"

    @property
    def _counts_dollars(self) -> bool:
        """Whether the benchmark's verdict or end depends on the price; else a new price must not run the gate again."""
        asked = self.benchmark
        return asked is not None and (
            asked.max_usd is not None or any(target["metric"].startswith("cost_") for target in asked.slo)
        )

    def benchmark_json(self) -> str:
        """The gate's `Benchmark` property: one line of `heavylift.benchmark/1`. Asserts that there is a benchmark."""
        assert self.benchmark is not None, "a plan without a benchmark has no gate"
        document = {
            "format": BENCHMARK_FORMAT,
            "subject": {
                "model": self.name,
                "engine": self.engine,
                "quantization": self.quantization,
                "dtype": self.dtype,
                "batch": self.serving.batch_size,
                "tensor_parallel_degree": self.tensor_parallel_degree,
                "workers": self.serving.workers,
                "instance_type": self.instance.type,
                "instance_count": self.instance.count,
                **(
                    {"usd_per_hour": self.instance.price.usd_per_hour}
                    if self.instance.price is not None and self._counts_dollars
                    else {}
                ),
            },
            **{key: value for key, value in _plain(Benchmark, self.benchmark).items() if value is not None},
            "on_fail": self.gate.on_fail,
            # Left out where it says what it means when missing, so that a benchmark's text stays what it was.
            **({} if self.gate.on_inconclusive == "fail" else {"on_inconclusive": self.gate.on_inconclusive}),
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True)

    def to_json(self) -> str:
        """`heavylift.plan/1`, indented, keys in the order of the classes."""
        return json.dumps(_plain(Plan, self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of to_json. Raises InputError for anything that is not a plan of this format."""
        try:
            made: Plan = _adapters()[cls].validate_json(text)
            return made
        except ValidationError as error:
            raise InputError(
                f"not a {FORMAT}: {'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}"
                for fault in error.errors()
            ) from error


@cache
def _adapters() -> dict[type[Any], TypeAdapter[Any]]:
    """Pydantic takes milliseconds to make one, and there may be a hundred models."""
    return {kind: TypeAdapter(kind) for kind in (Plan, Benchmark)}


def _plain(kind: type[Any], value: Any) -> dict[str, Any]:
    plain = _adapters()[kind].dump_python(value, mode="json")
    assert isinstance(plain, dict)
    return plain
