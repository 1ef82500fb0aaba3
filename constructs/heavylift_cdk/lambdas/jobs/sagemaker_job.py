"""A job of SageMaker's, of either kind: begun once for a key, watched, ended. Not what it makes: artifact.py.

Standard library and boto3 only.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3

AT_WORK = ("InProgress", "Stopping")
MISSING = ("ould not find", "not found")  # how DescribeProcessingJob and DescribeTrainingJob say so
ROLE_TRIES, ROLE_PAUSE = 8, 5.0  # IAM takes seconds to tell SageMaker of a new role


@dataclass(frozen=True)
class SageMakerJob:
    """`api` is the kind's word in the API: Processing, Training."""

    api: str

    def begin(self, wanted: dict[str, Any], made: Callable[[str], bool]) -> str:
        """The job at work for this key, or the one that did it and whose work is there, else a new one: its name."""
        number, name = 0, ""
        while True:
            number += 1
            last, name = name, f"heavylift-{wanted['Key'][:32]}-{number}"
            found = self.status(name)
            if found is None:
                break
            if found in AT_WORK:
                return name
        if last and self.status(last) == "Completed" and made(last):
            return last  # it ended after CloudFormation had stopped waiting
        asked = {**json.loads(wanted["Job"]), f"{self.api}JobName": name}
        for left in range(ROLE_TRIES - 1, -1, -1):
            try:
                self._call("create", **asked)
            except self._client().exceptions.ClientError as error:
                text = str(error)
                if "already exist" in text:  # the same request a second time, a moment ago
                    break
                if left == 0 or "assume" not in text.lower():
                    raise
                time.sleep(ROLE_PAUSE)
            else:
                break
        return name

    def name_of(self, detail: dict[str, Any]) -> str:
        """Of a job that EventBridge tells of."""
        return str(detail[f"{self.api}JobName"])

    def over(self, name: str) -> bool:
        """It has ended."""
        return self.status(name) not in AT_WORK

    def stop(self, name: str) -> None:
        """End it, if it runs."""
        if self.status(name) == "InProgress":
            self._call("stop", **{f"{self.api}JobName": name})

    def failure(self, name: str) -> str | None:
        """Why it did not end well, or None."""
        job = self.description(name)
        status = job[f"{self.api}JobStatus"]
        if status == "Completed":
            return None
        why = [job[member].strip() for member in ("ExitMessage", "FailureReason") if job.get(member)]
        return f"the {self.api.lower()} job {name} is {status}: {'; '.join(why) or 'see its log'}"

    def status(self, name: str) -> str | None:
        """A job's status, or None where there is no such job."""
        try:
            return str(self.description(name)[f"{self.api}JobStatus"])
        except self._client().exceptions.ClientError as error:
            known = error.response["Error"]["Code"] in ("ResourceNotFound", "ValidationException")
            if known and any(words in str(error) for words in MISSING):
                return None
            raise

    def description(self, name: str) -> dict[str, Any]:
        """All that the API tells of it."""
        job: dict[str, Any] = self._call("describe", **{f"{self.api}JobName": name})
        return job

    def _call(self, verb: str, **request: Any) -> Any:
        return getattr(self._client(), f"{verb}_{self.api.lower()}_job")(**request)

    def _client(self) -> Any:
        return boto3.client("sagemaker")
