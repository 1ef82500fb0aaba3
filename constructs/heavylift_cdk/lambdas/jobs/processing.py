"""An artifact as a job: a SageMaker processing job of our own image splits or compiles a model, on processors.

Not what it runs: the runtime's `partition` and `compile`. The artifact counts as made when artifact.py has compared it
with what was asked, file by file, and has said so beside it.
"""

from typing import Any

from .artifact import OtherArtifact, declare, document, ready
from .sagemaker_job import SageMakerJob

__all__ = ["IDENTITY", "WHAT", "begin", "fault", "name_of", "over", "ready", "stop"]

WHAT, IDENTITY = "processing job", "Key"
JOB = SageMakerJob("Processing")
name_of, over, stop = JOB.name_of, JOB.over, JOB.stop


def begin(wanted: dict[str, Any], request: str) -> str:
    """The job at work for this key, or the one that did it, else a new one: its name."""
    return JOB.begin(wanted, lambda name: document(wanted, wanted["Prefix"] + wanted["MadeFor"]) is not None)


def fault(wanted: dict[str, Any], name: str, until: float) -> str | None:
    """Why there is no artifact, or None: then it has been declared."""
    if (failure := JOB.failure(name)) is not None:
        return failure
    try:
        declare(wanted)
    except OtherArtifact as error:
        return f"the processing job {name} did not make what was asked: {error}"
    return None
