"""The gate: is this the endpoint that was deployed, how does it perform, and may the deployment go on?

Not CloudFormation's protocol (answer.py, handler.py), nor who may work on a request (lease.py), nor where a model is
measured (stage.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift.benchmark import outcome
from heavylift.benchmark.answer import Answer
from heavylift.benchmark.client import READ_TIMEOUT
from heavylift.benchmark.cloudwatch import metrics_of
from heavylift.benchmark.dark import Dark
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.loop import TakenBack
from heavylift.benchmark.merge import in_sequence, looked_at
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.sender import sender
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import GateClosed, InPlace, Place, Stage, assert_deployed, described, replaces
from heavylift.benchmark.staging import Staging
from heavylift.benchmark.violation import publish

__all__ = ["Gate", "GateClosed", "Leg"]

logger = logging.getLogger(__name__)

# For the last request to end, and then for judging, two uploads and the answer.
RESERVE = READ_TIMEOUT + 20.0
PROMOTION = 150.0  # more of it where a promotion, or the way back, comes after the verdict
SHORTEST_LEG = 20.0  # seconds: less is not worth another warm-up
LONGEST = 3300.0  # of the hour that CloudFormation waits: for a stage to get ready, and the benchmark
POLL = 5.0
STAGED: Mapping[str, Callable[[str, str], Stage]] = {"staging": Staging, "dark_variant": Dark}


@dataclass(frozen=True)
class Leg:
    """Where a run stands that is longer than one Lambda: its name, which leg is next, the seconds that are used up;
    and before its first leg, how many Lambdas waited for the stage, and since when (seconds since the epoch)."""

    run: str
    number: int = 1
    used_s: float = 0.0
    waits: int = 0
    since: float | None = None

    @property
    def part(self) -> int:
        """Which Lambda of the run this is, from 1."""
        return self.number + self.waits

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Shared:
    """A run that several Lambdas share, now that its stage is ready."""

    run: str


@dataclass(frozen=True)
class Gate:
    """What the custom resource's properties ask for."""

    endpoint: str
    endpoint_config: str
    digest: str
    benchmark: Benchmark
    strategy: str = "after_create"
    model: str | None = None
    """That of the inference component that is measured, where it was said."""

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> Gate:
        """Raises GateClosed for a missing property, FormatError for a malformed benchmark."""
        names = ("EndpointName", "EndpointConfigName", "GateDigest", "Benchmark")
        if missing := [name for name in names if not isinstance(properties.get(name), str)]:
            raise GateClosed(f"the gate's properties lack {', '.join(missing)}; needed: {', '.join(names)}")
        endpoint, config, digest, benchmark = (properties[name] for name in names)
        strategy = properties.get("Strategy", "after_create")
        if strategy not in (known := ("after_create", *STAGED)):
            raise GateClosed(f"the gate's Strategy is {strategy!r}; known: {', '.join(known)}")
        model = properties.get("InferenceComponentModel")
        return cls(endpoint, config, digest, Benchmark.from_json(benchmark), strategy, model)

    def run(
        self,
        *,
        bucket: str,
        seconds_left: float,
        leg: Leg | None = None,
        taken_back: Callable[[], str | None] = lambda: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> Answer | Leg | Shared:
        """Benchmark the endpoint, keep samples and report in `bucket`, and answer by the verdict.

        `seconds_left` is what the Lambda has. A run that needs longer ends this leg in time, keeps its samples, and
        gives the Leg that comes next; one of several generators only begins here. Raises GateClosed, TakenBack, and
        whatever boto3 raises; a stage is undone then.
        """
        if seconds_left <= (reserve := RESERVE + (0.0 if self.strategy == "after_create" else PROMOTION)):
            raise GateClosed(
                f"the Lambda has {seconds_left:.0f} s left; a benchmark needs more than {reserve:.0f} s: "
                "raise its timeout"
            )
        here = Leg(run_name(self.digest)) if leg is None else leg
        if self.strategy != "after_create" and leg is None and not replaces(self.endpoint, self.endpoint_config):
            return outcome.nothing_to_protect(self.endpoint)
        stage, begun = self.stage(), time.monotonic()
        deadline = begun + seconds_left - reserve
        try:
            if not self._ready(stage, deadline, taken_back, pause):
                since = time.time() - (seconds_left - reserve) if here.since is None else here.since
                if time.time() - since > LONGEST - self.benchmark.max_seconds:
                    raise GateClosed(f"{stage.place} was not in service after {time.time() - since:.0f} s")
                return replace(here, waits=here.waits + 1, since=since)
            if isinstance(self.benchmark.load, OpenLoad) and self.benchmark.load.generators > 1:
                return Shared(here.run)
            waited = time.monotonic() - begun if self.strategy in STAGED else 0.0
            found = self._measured(bucket, here, seconds_left - reserve - waited, stage, taken_back)
        except BaseException:
            undone(stage, deadline + PROMOTION, pause)
            raise
        return found if isinstance(found, Leg) else self.concluded(found, bucket, stage, deadline + PROMOTION, pause)

    def concluded(
        self, recording: Recording, bucket: str, stage: Stage, deadline: float, pause: Callable[[float], None]
    ) -> Answer:
        """Judge, keep the report, and promote the model or undo its stage, until `deadline` (monotonic seconds)."""
        answer = outcome.conclude(recording, bucket, self.endpoint, self.strategy)
        if answer.status != "SUCCESS":
            undone(stage, deadline, pause)
            return answer
        while not stage.promote() and time.monotonic() < deadline:
            pause(POLL)
        return answer

    def stage(self) -> Stage:
        """Where the new config is measured."""
        if self.strategy in STAGED:
            return STAGED[self.strategy](self.endpoint, self.endpoint_config)
        return InPlace(self.endpoint, self.endpoint_config, self.benchmark.inference_component, self.model)

    def measuring(self, properties: Mapping[str, Any]) -> Gate:
        """The same on the deployed endpoint, where it comes after it."""
        return replace(self, strategy="after_create") if "Before" in properties else self

    def promoted(self, verdict: str, report: str) -> Answer:
        """The answer of the gate after the endpoint, where the gate before it has measured. Raises GateClosed."""
        stage = self.stage()
        assert_deployed(Place(self.endpoint, self.endpoint_config))
        undone(stage, time.monotonic(), lambda seconds: None)
        publish(self.endpoint, verdict)
        decision = outcome.decide(verdict, self.benchmark)
        told = f"{self.endpoint} was measured before it served ({self.strategy}): {verdict}; report: {report}"
        return Answer("SUCCESS", told, {"Verdict": verdict, "Decision": decision, "ReportUri": report})

    def _ready(
        self, stage: Stage, deadline: float, taken_back: Callable[[], str | None], pause: Callable[[float], None]
    ) -> bool:
        """Whether the stage is ready before so little time is left that no benchmark can begin."""
        while not stage.ready():
            if (reason := taken_back()) is not None:
                raise TakenBack(reason)
            if time.monotonic() > deadline - SHORTEST_LEG:
                return False
            pause(POLL)
        return True

    def _measured(
        self, bucket: str, here: Leg, seconds: float, stage: Stage, taken_back: Callable[[], str | None]
    ) -> Recording | Leg:
        """The whole recording, or the leg that must come next."""

        def leg_of(benchmark: Benchmark) -> Recording:
            return measure(
                benchmark,
                sender(benchmark, stage.place),
                run=here.run,
                endpoint=str(stage.place),
                endpoint_config=stage.place.config,
                gate_digest=self.digest,
                time_limit=seconds,
                observe=lambda: str((described(stage.place.endpoint) or {}).get("EndpointConfigName")),
                metrics=metrics_of(stage.place, benchmark),
                taken_back=taken_back,
            )

        time_left = self.benchmark.max_seconds - here.used_s
        if here.number == 1 and (time_left <= seconds or time_left - seconds < SHORTEST_LEG):
            return leg_of(self.benchmark)
        folder = f"{outcome.folder(self.benchmark, here.run)}/legs"
        legs = [outcome.load(bucket, f"{folder}/{number}.jsonl.gz") for number in range(1, here.number)]
        measured = sum(len(each.measured) for each in legs)
        # A leg looks at no verdict: the looks, and the errors that they may make, are those of the whole.
        part = replace(
            self.benchmark,
            requests=self.benchmark.plan.most_requests - measured,
            max_seconds=time_left,
            part=here.number - 1,  # another leg has the same prompts in another order, at other times
            slo=(),
        )
        legs.append(leg_of(part))
        used = here.used_s + min(seconds, time_left)
        whole, decided = looked_at(in_sequence(legs, self.benchmark))
        if decided or legs[-1].run.stopped != "time" or self.benchmark.max_seconds - used < SHORTEST_LEG:
            return whole
        outcome.save(bucket, f"{folder}/{here.number}.jsonl.gz", legs[-1])
        return replace(here, number=here.number + 1, used_s=used)


def undone(stage: Stage, deadline: float, pause: Callable[[float], None]) -> None:
    """Undo a stage, as far as it goes until then (monotonic seconds); what hinders it is logged: the answer counts."""
    try:
        while not stage.undo() and time.monotonic() < deadline:
            pause(POLL)
    except (BotoCoreError, ClientError, GateClosed):
        logger.exception("what %s was made for could not be undone", stage.place)
