"""Model data: the S3 prefixes of a Model's ModelDataSource and AdditionalModelDataSources, from the embedded S3.

Not archives: a model here is uncompressed files under one prefix; those of many models are multi_model.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .clients import client
from .container import Container
from .errors import EndpointFailed, invalid
from .multi_model import Models, many
from .settings import Settings

_CHUNK = 1 << 20  # bytes
CHANNELS = "additional-model-data-sources"
"""The folder beside `model`, below /opt/ml, in which each further channel has one of its name (SageMaker's API,
AdditionalModelDataSource)."""


def check(container: dict[str, Any]) -> None:
    """Raise ValidationException for model data that the embedded SageMaker cannot fetch."""
    archives = ("ModelDataUrl", "MultiModelConfig")
    for member in (*archives, "ModelPackageName"):
        if member in container and not (many(container) and member in archives):
            raise invalid(f"the embedded SageMaker does not know {member}; give ModelDataSource with an S3 prefix")
    if "ModelDataSource" in container:
        _check_prefix("ModelDataSource", container["ModelDataSource"].get("S3DataSource", {}))
    channels = container.get("AdditionalModelDataSources", [])
    if channels and many(container):
        raise invalid("a MultiModel container has no AdditionalModelDataSources")
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) < len(names) or {".", ".."} & set(names):
        raise invalid(f"each channel is a folder of its own; got {', '.join(names)}")
    for channel in channels:
        _check_prefix(f"channel {channel['ChannelName']}", channel["S3DataSource"])
    if many(container):
        url = container.get("ModelDataUrl", "")
        if not (url.startswith("s3://") and url.endswith("/") and url.count("/") >= 3):
            raise invalid(f"ModelDataUrl is {url!r}; that of a MultiModel container is s3://bucket/prefix/")


def _check_prefix(what: str, s3: dict[str, Any]) -> None:
    if (s3.get("S3DataType"), s3.get("CompressionType")) != ("S3Prefix", "None"):
        raise invalid(
            f"{what} is {s3.get('S3DataType')} with compression {s3.get('CompressionType')}; "
            "the embedded SageMaker reads S3Prefix with CompressionType None"
        )
    uri = s3["S3Uri"]
    if not (uri.startswith("s3://") and uri.endswith("/") and uri.count("/") >= 3):
        raise invalid(f"S3Uri is {uri!r}; an S3Prefix is s3://bucket/prefix/ with the slash at its end")


class ModelData:
    """Downloads prefixes from the S3 of the embedded AWS itself."""

    def __init__(self, settings: Settings) -> None:
        self._s3 = client(settings, "s3", connections=4)

    def models(self, given: dict[str, Any], container: Container) -> Models | None:
        """The models of a MultiModel container; None of another."""
        return Models(self._s3, given["ModelDataUrl"], container) if many(given) else None

    def fetch(self, container: dict[str, Any], folder: Path, seconds: float, cancelled: Callable[[], bool]) -> None:
        """Write every object under the container's prefixes into `folder`, which stands for /opt/ml; EndpointFailed
        after `seconds` for each."""
        if "ModelDataSource" in container:
            self.bring(container["ModelDataSource"]["S3DataSource"]["S3Uri"], folder / "model", seconds, cancelled)
        for channel in container.get("AdditionalModelDataSources", []):
            self.bring(channel["S3DataSource"]["S3Uri"], folder / CHANNELS / channel["ChannelName"], seconds, cancelled)

    def bring(self, uri: str, folder: Path, seconds: float, cancelled: Callable[[], bool]) -> None:
        """The same of any prefix."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        deadline = time.monotonic() + seconds
        try:
            keys = self._keys(bucket, prefix)
            if not keys:
                raise EndpointFailed(f"no object under '{uri}'")
            for key in keys:
                target = _confined(folder, key.removeprefix(prefix))
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    for chunk in self._s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK):
                        file.write(chunk)
                        if time.monotonic() > deadline:
                            raise EndpointFailed(f"'{uri}' was not downloaded within {seconds:g} s")
                        if cancelled():
                            raise EndpointFailed("the embedded AWS is ending")
        except (BotoCoreError, ClientError) as error:
            raise EndpointFailed(f"'{uri}' cannot be downloaded: {error}") from error

    def take(self, folder: Path, uri: str) -> None:
        """Write every file below `folder` to a prefix; EndpointFailed where S3 refuses."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        prefix = f"{prefix.rstrip('/')}/"
        try:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                with path.open("rb") as file:
                    key = prefix + path.relative_to(folder).as_posix()
                    self._s3.put_object(Bucket=bucket, Key=key, Body=file)
        except (BotoCoreError, ClientError) as error:
            raise EndpointFailed(f"'{uri}' cannot be written: {error}") from error

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = (entry["Key"] for page in pages for entry in page.get("Contents", []))
        return [key for key in keys if not key.endswith("/")]  # the console's folder markers


def _confined(folder: Path, relative: str) -> Path:
    """`relative` inside `folder`; EndpointFailed where it would lead out of it."""
    target = (folder / relative).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise EndpointFailed(f"the key ends in {relative!r}, which leads out of the model's folder")
    return target
