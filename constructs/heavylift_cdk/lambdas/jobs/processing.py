"""An artifact as a job: a SageMaker processing job of our own image splits or compiles a model's weights.

Not what it runs: the runtime's `partition` and `compile`. The artifact counts as made when this has compared it with
what was asked, file by file, and has said so beside it. Standard library and boto3 only.
"""

import json
import time
from typing import Any

import boto3

WHAT, IDENTITY = "processing job", "Key"
AT_WORK = ("InProgress", "Stopping")
MEND = "remove that prefix and the .json beside it, and deploy again"
LARGEST = 16 << 20  # bytes of an artifact's own manifest
ROLE_TRIES, ROLE_PAUSE = 8, 5.0  # IAM takes seconds to tell SageMaker of a new role


class OtherArtifact(Exception):
    """What is there was made for another key, or is not whole."""


def ready(wanted: dict[str, Any]) -> bool:
    """The artifact was declared, for this very key. Raises OtherArtifact for another's."""
    made = document(wanted, declaration(wanted))
    if made is None:
        return False
    expected = json.loads(wanted["Expected"])
    if made.get("key") != wanted["Key"] or made.get("made_for") != expected:
        raise OtherArtifact(
            f"s3://{wanted['Bucket']}/{wanted['Prefix']} holds an artifact made for {made.get('made_for')}, key "
            f"{made.get('key')}; this deployment needs {expected}, key {wanted['Key']}: {MEND}"
        )
    return True


def begin(wanted: dict[str, Any], request: str) -> str:
    """The job at work for this key, or the one that did it, else a new one: its name."""
    sagemaker, number, name = boto3.client("sagemaker"), 0, ""
    while True:
        number += 1
        last, name = name, f"heavylift-{wanted['Key'][:32]}-{number}"
        found = status(sagemaker, name)
        if found is None:
            break
        if found in AT_WORK:
            return name
    if (
        last
        and status(sagemaker, last) == "Completed"
        and document(wanted, wanted["Prefix"] + wanted["MadeFor"]) is not None
    ):
        return last  # it ended after CloudFormation had stopped waiting
    asked = {**json.loads(wanted["Job"]), "ProcessingJobName": name}
    for left in range(ROLE_TRIES - 1, -1, -1):
        try:
            sagemaker.create_processing_job(**asked)
        except sagemaker.exceptions.ClientError as error:
            text = str(error)
            if "already exist" in text:  # the same request a second time, a moment ago
                break
            if left == 0 or "assume" not in text.lower():
                raise
            time.sleep(ROLE_PAUSE)
        else:
            break
    return name


def name_of(detail: dict[str, Any]) -> str:
    """Of a job that EventBridge tells of."""
    return str(detail["ProcessingJobName"])


def over(name: str) -> bool:
    """It has ended."""
    return status(boto3.client("sagemaker"), name) not in AT_WORK


def stop(name: str) -> None:
    """End it, if it runs."""
    sagemaker = boto3.client("sagemaker")
    if status(sagemaker, name) == "InProgress":
        sagemaker.stop_processing_job(ProcessingJobName=name)


def fault(wanted: dict[str, Any], name: str) -> str | None:
    """Why there is no artifact, or None: then it has been declared."""
    job = boto3.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    if job["ProcessingJobStatus"] != "Completed":
        why = [job[member].strip() for member in ("ExitMessage", "FailureReason") if job.get(member)]
        return f"the processing job {name} is {job['ProcessingJobStatus']}: {'; '.join(why) or 'see its log'}"
    try:
        declare(wanted)
    except OtherArtifact as error:
        return f"the processing job {name} did not make what was asked: {error}"
    return None


def declare(wanted: dict[str, Any]) -> None:
    """Compare what was made with what is asked, and the files with their list; then say so. OtherArtifact."""
    where = f"s3://{wanted['Bucket']}/{wanted['Prefix']}"
    made, listed = (document(wanted, wanted["Prefix"] + wanted[name]) for name in ("MadeFor", "Files"))
    if made is None or listed is None:
        raise OtherArtifact(f"{where} has no {wanted['MadeFor'] if made is None else wanted['Files']}")
    expected = json.loads(wanted["Expected"])
    faults = [
        f"{field} is {made.get(field)!r}, not {value!r}"
        for field, value in expected.items()
        if made.get(field) != value
    ]
    there = sizes(wanted)
    faults += [
        f"{file['path']} has {there.get(file['path'])} bytes, not {file['size']}"
        for file in listed["files"]
        if there.get(file["path"]) != file["size"]
    ]
    if faults:
        raise OtherArtifact(f"{where}: {'; '.join(faults)}; {MEND}")
    said = {"format": "heavylift.artifact/1", "key": wanted["Key"], "made_for": expected}
    boto3.client("s3").put_object(
        Bucket=wanted["Bucket"], Key=declaration(wanted), Body=(json.dumps(said, indent=2) + "\n").encode()
    )


def declaration(wanted: dict[str, Any]) -> str:
    """The key of what declares an artifact complete: beside its prefix, where no loader meets it."""
    return f"{wanted['Prefix'].removesuffix('/')}.json"


def status(sagemaker: Any, name: str) -> str | None:
    """A job's status, or None where there is no such job."""
    try:
        return str(sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"])
    except sagemaker.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFound", "ValidationException") and "ould not find" in str(
            error
        ):
            return None
        raise


def document(wanted: dict[str, Any], key: str) -> dict[str, Any] | None:
    """A JSON object in the bucket, or None where it is not there."""
    s3 = boto3.client("s3")
    found = s3.list_objects_v2(Bucket=wanted["Bucket"], Prefix=key, MaxKeys=1).get("Contents", [])
    if [item["Key"] for item in found] != [key]:
        return None
    if found[0]["Size"] > LARGEST:
        raise OtherArtifact(f"{key} has {found[0]['Size']} bytes; at most {LARGEST}")
    read = json.loads(s3.get_object(Bucket=wanted["Bucket"], Key=key)["Body"].read())
    if not isinstance(read, dict):
        raise OtherArtifact(f"{key} is no JSON object")
    return read


def sizes(wanted: dict[str, Any]) -> dict[str, int]:
    """Path → bytes of every file of the artifact."""
    pages = (
        boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=wanted["Bucket"], Prefix=wanted["Prefix"])
    )
    return {
        item["Key"].removeprefix(wanted["Prefix"]): item["Size"] for page in pages for item in page.get("Contents", [])
    }
