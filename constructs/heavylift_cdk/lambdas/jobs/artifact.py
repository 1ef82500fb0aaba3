"""An artifact in the bucket: its own manifest, its files, and the declaration beside it that says for what it is whole.

Not what made it: processing.py, training.py. Standard library and boto3 only.
"""

import json
from typing import Any

import boto3

MEND = "remove that prefix and the .json beside it, and deploy again"
LARGEST = 16 << 20  # bytes of an artifact's own manifest


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
    there = sizes(wanted["Bucket"], wanted["Prefix"])
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


def sizes(bucket: str, prefix: str) -> dict[str, int]:
    """Path below the prefix → bytes of every file."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"].removeprefix(prefix): item["Size"] for page in pages for item in page.get("Contents", [])}
