"""The two start-up timeouts and the volume, from bytes and bandwidths. Not measured: every constant says `assumed`.

SageMaker's limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html. What the
container itself reads from S3 counts against the health check, not against the download.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from heavylift.plan.facts import InstanceFact

SHORTEST, LONGEST = 60, 3600  # seconds
MOST = f"{LONGEST} s"
LARGEST_VOLUME = 512  # GB
NETWORK_SHARE = 0.6  # of the line, one client's S3 throughput
BURST_SHARE = 1 / 8  # of AWS's 'up to', where the baseline is unknown
SLOWEST_BURST = 10  # Gbit/s, where nothing is known
S3_BYTES_PER_SECOND = 2e9
LOAD_BYTES_PER_SECOND = 1e9
START_SECONDS = 30  # processes, imports, rendezvous
ENGINE_SECONDS = {"vllm": 120, "neuronx": 600, "deepspeed": 60, "fastertransformer": 60}
"""Besides: CUDA graphs and torch.compile; a compilation that was not made ahead; splitting in the host's memory."""
SAFETY, FLOOR_SECONDS = 2.5, 120
VOLUME_FACTOR, VOLUME_FLOOR = 1.15, 30


class Answer(NamedTuple):
    """A value and its arithmetic; `over` when it exceeds what SageMaker allows even without the safety factor."""

    value: int
    why: str
    over: bool = False
    mend: str = ""


def download_seconds(bytes_: int, fact: InstanceFact) -> float:
    """Seconds to read so many bytes from S3 on this type."""
    return bytes_ / bandwidth(fact)


def bandwidth(fact: InstanceFact) -> float:
    """Bytes per second from S3 that we count on: of a type that bursts, what it has always."""
    steady = fact.network_gbps
    if steady is None:
        steady = BURST_SHARE * (SLOWEST_BURST if fact.network_burst_gbps is None else fact.network_burst_gbps)
    return min(steady * 1e9 / 8 * NETWORK_SHARE, S3_BYTES_PER_SECOND)


def download_timeout(bytes_: int, fact: InstanceFact) -> Answer:
    """ModelDataDownloadTimeoutInSeconds for the bytes under ModelDataSource."""
    seconds = download_seconds(bytes_, fact)
    arithmetic = f"{bytes_} bytes / {bandwidth(fact) / 1e6:.0f} MB/s = {seconds:.1f} s"
    return _timeout(seconds, arithmetic, {"the download": seconds})


def health_timeout(streamed: int, loaded: int, fact: InstanceFact, engine: str = "native") -> Answer:
    """ContainerStartupHealthCheckTimeoutInSeconds: bytes that the container streams, then loads."""
    start = START_SECONDS + ENGINE_SECONDS.get(engine, 0)
    terms = {
        "the download": download_seconds(streamed, fact),
        "loading": loaded / LOAD_BYTES_PER_SECOND,
        "starting": float(start),
    }
    seconds = sum(terms.values())
    parts = f"{streamed} bytes / {bandwidth(fact) / 1e6:.0f} MB/s + {loaded} bytes / 1 GB/s + {start} s start"
    return _timeout(seconds, f"{parts} = {seconds:.1f} s", terms)


def volume(bytes_: int) -> Answer:
    """VolumeSizeInGB for the bytes that may lie on the disk."""
    size = ceil(VOLUME_FACTOR * bytes_ / 1e9) + VOLUME_FLOOR
    why = f"⌈{VOLUME_FACTOR} · {bytes_ / 1e9:.2f} GB⌉ + {VOLUME_FLOOR} GB for the container"
    mend = "take a type with NVMe storage, or let the container stream the weights"
    return Answer(min(size, LARGEST_VOLUME), why, over=size > LARGEST_VOLUME, mend=mend)


def _timeout(seconds: float, parts: str, terms: dict[str, float]) -> Answer:
    wanted = ceil(SAFETY * seconds) + FLOOR_SECONDS
    value = min(max(wanted, SHORTEST), LONGEST)
    clamp = "" if value == wanted else f", limited to SageMaker's {SHORTEST} to {LONGEST} s"
    longest = max(terms, key=lambda term: terms[term])
    most = f"; {longest} takes most of it" if terms[longest] > START_SECONDS else ""
    why = f"{parts}{most}; ⌈{SAFETY} · estimate⌉ + {FLOOR_SECONDS} s = {wanted} s{clamp}, bandwidths assumed"
    mend = f"{longest} alone takes {terms[longest]:.0f} s: take a type with more network, fewer bytes, or split ahead"
    return Answer(value, why, over=seconds > LONGEST, mend=mend)
