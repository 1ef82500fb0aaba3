"""Processing jobs: a job's inputs brought from S3, our runtime as a real local process, its outputs taken to S3.

Not the endpoints' processes: those serve until they are told to end. A job's folder stands for the container's /opt/ml;
its log stays. One instance, File mode, EndOfJob uploads; whatever else the API knows is refused with a sentence.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from . import seams
from .container import Container
from .errors import ApiError, EndpointFailed, invalid
from .model_data import ModelData
from .settings import Settings

Parameters = dict[str, Any]

ROOT = "/opt/ml/"
EVENT = "SageMaker Processing Job State Change"
MOST_TOLD = 1024  # characters of ExitMessage and FailureReason
MODULE = "heavylift_runtime"


class Jobs:
    """The jobs by name, from their request to their end; the daemon's end is theirs."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._data = settings, ModelData(settings)
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def create(self, given: Parameters) -> Parameters:
        """Start a job. ApiError for what cannot be done here."""
        _check(given)
        name = given["ProcessingJobName"]
        with self._lock:
            if name in self._jobs:
                raise ApiError("ResourceInUse", f"Job name must be unique, and {name} already exists")
            job = self._jobs[name] = Job(self._settings, self._data, given)
        threading.Thread(target=job.run, daemon=True).start()
        return {"ProcessingJobArn": job.arn}

    def describe(self, given: Parameters) -> Parameters:
        """The job as SageMaker shows it."""
        return self._get(given).described()

    def stop(self, given: Parameters) -> Parameters:
        """End a job that runs."""
        job = self._get(given)
        if job.status != "InProgress":
            raise invalid(f"The request was rejected because the processing job is in status {job.status}")
        job.stop()
        return {}

    def end(self) -> None:
        """End all, and wait."""
        for job in list(self._jobs.values()):
            job.stop()

    def _get(self, given: Parameters) -> Job:
        name = given["ProcessingJobName"]
        if name not in self._jobs:
            raise ApiError("ResourceNotFound", f"Could not find requested job with name: {name}")
        return self._jobs[name]


class Job:
    """One job: its request, its status, its process."""

    def __init__(self, settings: Settings, data: ModelData, given: Parameters) -> None:
        self.name: str = given["ProcessingJobName"]
        self.arn = settings.arn("sagemaker", f"processing-job/{self.name}")
        self.status = "InProgress"
        self._given, self._settings, self._data = given, settings, data
        self._told: dict[str, Any] = {}
        self._created = time.time()
        self._stopped = threading.Event()
        self._container: Container | None = None

    def described(self) -> Parameters:
        """What DescribeProcessingJob answers."""
        kept = {key: value for key, value in self._given.items() if key != "Tags"}
        times = {"CreationTime": self._created, "LastModifiedTime": self._told.get("ProcessingEndTime", self._created)}
        return {**kept, "ProcessingJobArn": self.arn, "ProcessingJobStatus": self.status, **times, **self._told}

    def stop(self) -> None:
        """Let it end as Stopped."""
        self._stopped.set()
        if self._container is not None:
            self._container.stop()

    def run(self) -> None:
        """From the inputs to the outputs; then its end is told to EventBridge."""
        container = self._container = Container(self._settings, self.name, under="jobs")
        status = "Completed"
        try:
            self._work(container, container.folder / "opt")
        except EndpointFailed as error:
            self._told["FailureReason"] = str(error)[:MOST_TOLD]
            status = "Failed"
        except Exception as error:  # the thread's last line: a job that never ends would hold a stack for an hour
            self._told["FailureReason"] = f"InternalServerError: {error!r}"[:MOST_TOLD]
            status = "Failed"
        container.stop()
        self._told["ProcessingEndTime"] = time.time()
        self.status = "Stopped" if self._stopped.is_set() else status
        seams.tell("aws.sagemaker", EVENT, [self.arn], self.described())

    def _work(self, container: Container, folder: Path) -> None:
        """`folder` stands for /opt/ml. EndpointFailed, where it fails, with the reason."""
        limit = self._given.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86_400)
        for each in self._given.get("ProcessingInputs", []):
            s3 = each["S3Input"]
            target = _inside(folder, s3["LocalPath"])
            target.mkdir(parents=True, mode=0o700)
            self._data.bring(s3["S3Uri"], target, limit, self._stopped.is_set)
        outputs = self._given.get("ProcessingOutputConfig", {}).get("Outputs", [])
        for each in outputs:
            _inside(folder, each["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._stopped.is_set():
            raise EndpointFailed("the job was stopped")
        container.start({**self._given.get("Environment", {}), "HEAVYLIFT_OPT_ML": str(folder)}, self._command())
        if self._stopped.is_set():  # a moment before it started
            container.stop()
        code = container.wait_exit(limit)
        told = folder / "output" / "message"
        if told.is_file():
            self._told["ExitMessage"] = told.read_text("utf-8", errors="replace")[:MOST_TOLD]
        if code != 0:
            raise EndpointFailed(container.reason(f"AlgorithmError: the container exited with code {code}"))
        for each in outputs:
            self._data.take(_inside(folder, each["S3Output"]["LocalPath"]), each["S3Output"]["S3Uri"])

    def _command(self) -> list[str]:
        """What the image's entrypoint makes of the arguments: container/entrypoint."""
        python = self._settings.command[0]
        return [python, "-P", "-m", MODULE, "job", *self._given["AppSpecification"]["ContainerArguments"]]


def _check(given: Parameters) -> None:
    """Raise ValidationException for what a local process cannot do."""
    application, cluster = given["AppSpecification"], given["ProcessingResources"]["ClusterConfig"]
    if "ContainerEntrypoint" in application or not application.get("ContainerArguments"):
        raise invalid("the embedded SageMaker runs the image's own entrypoint: give ContainerArguments alone")
    if cluster.get("InstanceCount", 1) != 1:
        raise invalid(f"the embedded SageMaker runs a job on one instance; got {cluster['InstanceCount']}")
    for each in given.get("ProcessingInputs", []):
        s3 = each.get("S3Input")
        if s3 is None or s3["S3DataType"] != "S3Prefix" or s3.get("S3InputMode", "File") != "File":
            raise invalid(f"input {each['InputName']}: the embedded SageMaker brings S3Prefix in File mode")
        if s3.get("S3CompressionType", "None") != "None":
            raise invalid(f"input {each['InputName']}: the embedded SageMaker unpacks nothing")
        _inside(Path("/"), s3.get("LocalPath", ""))
    for each in given.get("ProcessingOutputConfig", {}).get("Outputs", []):
        s3 = each.get("S3Output")
        if s3 is None or s3["S3UploadMode"] != "EndOfJob":
            raise invalid(f"output {each['OutputName']}: the embedded SageMaker uploads to S3 at the end of the job")
        _inside(Path("/"), s3.get("LocalPath", ""))


def _inside(folder: Path, place: str) -> Path:
    """Where a path of the container lies here."""
    parts = Path(place).parts
    if not place.startswith(f"{ROOT}processing/") or ".." in parts:
        raise invalid(f"LocalPath is {place!r}; it must be below {ROOT}processing/")
    return folder / place.removeprefix(ROOT)
