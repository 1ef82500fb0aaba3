"""A .tar.gz in S3, unpacked into a folder. Not what is in it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_CHUNK = 1 << 20  # bytes


class ArchiveFault(Exception):
    """It cannot be downloaded, or not unpacked; the message says which."""


def unpack(s3: Any, bucket: str, key: str, folder: Path) -> None:
    """Make `folder` of the archive, whole or not at all. ArchiveFault."""
    partial = folder.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an archive that broke off
    archive = folder.with_name("archive.tar.gz")
    archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(archive, "wb") as file:
            for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK):
                file.write(chunk)
        with tarfile.open(archive, "r:gz") as packed:
            packed.extractall(partial, filter="data")  # nothing outside of the folder, no devices
    except (BotoCoreError, ClientError) as error:
        raise ArchiveFault(f"Failed to download model data(bucket: {bucket}, key: {key}): {error}") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveFault(f"Failed to extract model data archive (bucket: {bucket}, key: {key}): {error}") from None
    finally:
        archive.unlink(missing_ok=True)
    partial.rename(folder)
