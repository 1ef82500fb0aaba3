"""What one rank computes with, and what lies between the ranks. Not the share of it that an engine reaches.

Accelerators' peaks are those of the fact tables. A processor's are assumed here: AWS publishes neither its memory's
bandwidth nor its arithmetic for an instance type, and calibration on the machine itself replaces both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from heavylift.plan.facts import Accelerator, Collective, origins
from heavylift.plan.validity import computes_in

CORE_BANDWIDTH = 100e9
"""Bytes/s that one physical core reads at the most, from its own cache; assumed. From memory it is a tenth of it."""
CORE_FLOPS = {"fp32": 160e9, "bf16": 160e9, "fp16": 160e9}
"""FLOP/s of one physical core at the most: AVX-512 at 2.5 GHz; assumed. bf16 gains nothing without AMX."""
SAME_MACHINE = (10.0, 2.0)
"""µs and GB/s of an all-reduce between processes of one machine, through shared memory; assumed."""
NEURON_LINK = (15.0, 80.0)
"""µs and GB/s between NeuronCores: NeuronLink-v2's 192 GiB/s, halved; assumed."""


@dataclass(frozen=True)
class Device:
    """One rank's peaks: memory in bytes/s, arithmetic in FLOP/s (dense, of the format it computes in).

    `between`: an all-reduce over so many ranks; empty where ranks of this device exchange nothing.
    """

    bandwidth: float
    flops: float
    between: Mapping[int, Collective]

    @classmethod
    def of(cls, accelerator: Accelerator, dtype: str, quantization: str = "none") -> Device | None:
        """One core of it (a GPU has one); None where its bandwidth or its arithmetic is not published."""
        flops = accelerator.operations.get(computes_in(dtype, quantization, accelerator))
        if flops is None or accelerator.bandwidth is None:
            return None
        between = accelerator.collectives or {2: _assumed(*NEURON_LINK)}
        return cls(accelerator.bandwidth / accelerator.cores, flops / accelerator.cores, between)

    @classmethod
    def cpu(cls, cores: float, dtype: str) -> Device:
        """A rank that owns so many physical cores."""
        return cls(cores * CORE_BANDWIDTH, cores * CORE_FLOPS[dtype], {2: _assumed(*SAME_MACHINE)})

    def collective(self, ranks: int) -> Collective:
        """The row of so many ranks, or of the next larger number; beyond the table, the wait grows with the ranks."""
        row = next((self.between[size] for size in sorted(self.between) if size >= ranks), None)
        if row is not None:
            return row
        most = max(self.between)
        return replace(self.between[most], alpha_us=self.between[most].alpha_us * ranks / most, how="estimated")


def _assumed(alpha_us: float, bus_gbps: float) -> Collective:
    return Collective(alpha_us, bus_gbps, "estimated", origins()["unknown"])
