"""The EndpointConfig's variant: both timeouts, the volume, the machine image. Not the instance type: instance.py.

By default the container streams the weights, and that time counts against its health check; with network isolation
SageMaker copies them before, and that counts against the download.
"""

from __future__ import annotations

from heavylift.errors import InputError
from heavylift.plan import times
from heavylift.plan.checkpoint import weights_bytes
from heavylift.plan.facts import InstanceFact
from heavylift.plan.images import ami_for
from heavylift.plan.lock import Lock
from heavylift.plan.parts import Decision, Variant
from heavylift.spec import ModelSpec

DOWNLOAD, HEALTH = "model_data_download_timeout_in_seconds", "container_startup_health_check_timeout_in_seconds"


def variant_of(spec: ModelSpec, lock: Lock, fact: InstanceFact, engine: str) -> tuple[Variant, list[Decision]]:
    """Raises InputError with every value that SageMaker does not take."""
    answers = _Answers()
    everything, weights = lock.model.weights.bytes, weights_bytes(lock)
    isolated = spec.enable_network_isolation
    config = 0 if lock.code is None else sum(file.size for file in lock.code.files)
    copied = everything if isolated else config
    download = answers.of(
        DOWNLOAD, spec.model_data_download_timeout_in_seconds, times.download_timeout(copied, fact), times.MOST
    )
    streamed = 0 if isolated else everything
    health = answers.of(
        HEALTH,
        spec.container_startup_health_check_timeout_in_seconds,
        times.health_timeout(streamed, weights, fact, engine),
        times.MOST,
    )
    volume = None
    if fact.nvme:
        why = f"{fact.type} has {fact.nvme_gb:g} GB of NVMe storage, and SageMaker refuses a volume beside it"
        answers.decisions.append(Decision("volume_size_in_gb", "left out", "computed", why))
    else:
        on_disk = everything if isolated or engine == "script" else config
        volume = answers.of(
            "volume_size_in_gb", spec.volume_size_in_gb, times.volume(on_disk), f"{times.LARGEST_VOLUME} GB"
        )
    ami, why = ami_for(fact)
    if fact.hardware == "gpu" and spec.image is not None and spec.image.dlc is not None:
        ami, why = None, "AWS's container has a CUDA of its own, which synthesis pairs with an image (compatibility.py)"
    answers.decisions.append(Decision("inference_ami_version", ami or "left out", "computed", why))
    if answers.faults:
        raise InputError(answers.faults)
    return Variant(download, health, volume, ami), answers.decisions


class _Answers:
    """Collects a decision for each field, and the faults of all."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.faults: list[str] = []

    def of(self, field: str, given: int | str, computed: times.Answer, most: str) -> int:
        """The given value with the computed one beside it, or the computed one."""
        if not isinstance(given, str):
            why = f"computed would be {computed.value}: {computed.why}"
            self.decisions.append(Decision(field, str(given), "given", why))
            return given
        if computed.over:
            self.faults.append(f"'{field}' would exceed SageMaker's {most}: {computed.why}; {computed.mend}")
        self.decisions.append(Decision(field, str(computed.value), "computed", computed.why))
        return computed.value
