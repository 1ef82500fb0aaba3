"""What is measured after a deployment, the targets, and what the plan counts with. Not the benchmark itself.

Which fields of a load go together, and how many requests a target needs, is checked in rules.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from heavylift.benchmark.slo import TOLERANCE
from heavylift.spec.fields import Auto, Folder, Listed, Percentile, SageMakerName, Share, Strictly, text


class LoadSpec(Strictly):
    """Closed: clients that send their next request when the last one is answered. Open: arrivals that wait for nobody,
    whose latency counts from when they were due. Which fields go together is checked in rules.py."""

    mode: Literal["closed", "open"] = "closed"
    concurrency: int = Field(1, ge=1, le=256, description="clients of a closed load")
    arrivals: Literal["poisson", "constant", "gamma", "ramp", "trace"] | None = Field(
        None, description="of an open load"
    )
    rate: float | None = Field(None, gt=0, le=10_000, description="requests a second")
    cv: float | None = Field(None, gt=0, le=20, description="of gamma: standard deviation of the gaps over their mean")
    to_rate: float | None = Field(None, gt=0, le=10_000, description="of a ramp: the rate at its end")
    ramp_s: float | None = Field(None, gt=0, le=86_400, description="of a ramp: its seconds")
    times_s: Annotated[tuple[float, ...], Listed] | None = Field(None, description="of a trace: when each is due")
    max_in_flight: int | None = Field(None, ge=1, le=90_000, description="requests of an open load under way at a time")
    generators: int | None = Field(None, ge=1, le=100, description="Lambdas that share a poisson load, at once")

    def to_dict(self) -> dict[str, Any]:
        """The load as the benchmark has it: only what its mode uses."""
        said = {key: value for key, value in self.model_dump().items() if value is not None}
        if self.mode == "open":
            del said["concurrency"]
            said |= {"arrivals": self.arrivals or "poisson"}
        return said | ({"times_s": list(self.times_s)} if self.times_s is not None else {})


class WarmupSpec(Strictly):
    """The load is warm when three windows of requests take as long as each other; else the run is void."""

    until: Literal["stationary"] = "stationary"
    window: int = Field(8, ge=3, le=10_000, description="requests")
    max_requests: int = Field(240, ge=9, le=100_000)


Range = Annotated[tuple[int, ...], Listed, Field(min_length=2, max_length=2)]


class SyntheticSpec(Strictly):
    """Prompts of given lengths, without right answers; each length is drawn evenly from [least, most]."""

    prompt_words: Range
    new_tokens: Range
    shared_prefix_words: int = Field(0, ge=0, le=100_000, description="that all prompts begin with")
    prompts: int = Field(256, ge=1, le=10_000)


class OwnPrompts(Strictly):
    """Prompts made from the benchmark's seed, or those of a file of JSON lines: exactly one of the two."""

    synthetic: SyntheticSpec | None = None
    dataset: Folder | None = Field(None, description="a .jsonl beside this file: task, input, answer?, new_tokens?")


Confidence = Annotated[float, Field(ge=0.5, le=0.9999)]
Tolerance = Annotated[float, Field(ge=0.0001, le=0.5, description="what is ruled out where none may be bad")]


class LatencyTarget(Strictly):
    """In milliseconds, at a percentile: from the intended send to the last byte, from the actual send (`service`), to
    the first token (`ttft`), between tokens (`itl`), or the mean per token after the first (`tpot`)."""

    metric: Literal["e2e_latency", "service_latency", "ttft", "tpot", "itl"]
    percentile: Percentile
    max_ms: float = Field(gt=0)
    confidence: Confidence = 0.95


class ErrorTarget(Strictly):
    """Failed requests, as a share of all measured."""

    metric: Literal["error_rate"]
    max: Share
    confidence: Confidence = 0.95
    tolerance: Tolerance = TOLERANCE


class QualityTarget(Strictly):
    """Rows answered correctly, as a share of all measured."""

    metric: Literal["quality"]
    min: Share
    confidence: Confidence = 0.95
    tolerance: Tolerance = TOLERANCE


class InvarianceTarget(Strictly):
    """Prompts whose answer is the same alone and in a batch, or unloaded and under load, as a share of the probes'."""

    metric: Literal["batch_invariance", "load_invariance"]
    min: Share
    confidence: Confidence = 0.95
    tolerance: Tolerance = TOLERANCE


class AttainmentTarget(Strictly):
    """Good requests (answered, right, in time), as a share of all measured."""

    metric: Literal["attainment"]
    min: Share
    confidence: Confidence = 0.95
    tolerance: Tolerance = TOLERANCE


class ThroughputTarget(Strictly):
    """Generated tokens, answered requests or good requests per second, over the measured time."""

    metric: Literal["tokens_per_second", "requests_per_second", "goodput"]
    min: float = Field(gt=0)
    confidence: Confidence = 0.95


class CostTarget(Strictly):
    """US dollars, at the plan's price of the instance."""

    metric: Literal["cost_per_1k_good_requests_usd", "cost_per_1m_tokens_usd"]
    max: float = Field(gt=0)
    confidence: Confidence = 0.95


Target = Annotated[
    LatencyTarget | ErrorTarget | QualityTarget | InvarianceTarget | AttainmentTarget | ThroughputTarget | CostTarget,
    Field(discriminator="metric"),
]


Archive = Annotated[
    str, text(r"^[A-Za-z0-9._-][A-Za-z0-9._/-]*\.tar\.gz$", "a key below the prefix, as a.tar.gz", 1024)
]


class BenchmarkSpec(Strictly):
    """What is measured after a deployment, and the targets it must meet."""

    workload: Literal["four-tasks"] | OwnPrompts
    load: LoadSpec = LoadSpec()
    stream: bool = Field(False, description="ask for tokens as they come: one prompt in each request")
    api: Literal["heavylift", "tgi", "openai-chat", "openai-completions"] = "heavylift"
    warmup_requests: int = Field(8, ge=0, le=10_000, description="at least")
    warmup: WarmupSpec = WarmupSpec()
    probes: int = Field(2, ge=0, le=64, description="batches that are first sent alone, and row by row, to be compared")
    requests: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(200, description="auto: as many as decide")
    max_usd: float | None = Field(None, gt=0, le=1_000_000, description="what the instances may cost meanwhile")
    max_seconds: int = Field(300, ge=1, le=3300, description="CloudFormation waits 3600 seconds for a gate's answer")
    seed: int = Field(7, ge=0, le=2**32 - 1)
    inference_component: SageMakerName | None = Field(None, description="which is measured; default: the only one")
    target_model: Archive | None = Field(None, description="of multi_model: the archive that is measured")
    slo: Annotated[tuple[Target, ...], Listed] = Field(min_length=1, description="service level objectives")


class TrafficSpec(Strictly):
    """What the plan counts with, where it is more than the benchmark: mean sizes, and the rate of requests."""

    input_tokens: int = Field(ge=1, le=1_000_000, description="of a prompt, on average")
    output_tokens: int = Field(ge=1, le=1_000_000, description="of an answer, on average")
    requests_per_second: float | None = Field(None, gt=0, le=1e6, description="over all instances; one prompt each")
    max_first_token_ms: float | None = Field(None, gt=0, description="time to the first token, for the plan only")
    max_per_token_ms: float | None = Field(None, gt=0, description="time per output token, for the plan only")


class GateSpec(Strictly):
    """Where the benchmark runs; what a missed target does, and a run that is too small to tell."""

    strategy: Literal["after_create", "staging", "dark_variant"] = Field(
        "after_create",
        description="measure the endpoint itself, one like it that goes again, or a variant at weight 0 beside the old",
    )
    on_fail: Literal["rollback", "hold", "warn"] = "rollback"
    on_inconclusive: Literal["fail", "pass"] = "fail"
