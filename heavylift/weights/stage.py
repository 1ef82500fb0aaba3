"""The staging job: a pinned revision on the hub is brought into the weight bucket, from inside the account.

Not the push from one's own machine, though it is the same code: resumable, every byte compared with its SHA-256, the
manifest last, nothing sent twice. Run as `python -m heavylift.weights.stage`; HF_TOKEN comes from Secrets Manager.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.digest import digest
from heavylift.weights.bucket import Bucket
from heavylift.weights.hub import Hub
from heavylift.weights.inspect import hashed
from heavylift.weights.push import Pushed, copy


def stage(id_: str, revision: str, expected: str, bucket: str, client: Any) -> Pushed:
    """Raises InputError when the revision's files are not those of the digest: then nothing is copied."""
    target = Bucket(bucket, client)
    if target.complete(f"weights/{expected}/"):
        return Pushed(f"s3://{bucket}/weights/{expected}/", 0, 0)
    store = Hub(id_, revision)
    files = hashed(store, store.files())
    if (found := digest(files)) != expected:
        raise InputError(
            f"{id_} at {revision} has the digest {found}, and the lock says {expected}: write the lock anew with "
            "`heavylift plan`"
        )
    every = max(1, sum(file.size for file in files) // 100)
    return copy(store, files, found, target, _Percent(every))


class _Percent:
    """A line in the job's log for each percent."""

    def __init__(self, every: int) -> None:
        self._every, self._next = every, 0

    def __call__(self, done: int, total: int) -> None:
        if done >= self._next:
            self._next = done + self._every
            print(f"{done:,} of {total:,} bytes", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Stage one model; the exit code says whether its prefix is complete."""
    parser = argparse.ArgumentParser(prog="python -m heavylift.weights.stage", description=__doc__.splitlines()[0])
    for name in ("--id", "--revision", "--digest", "--bucket"):
        parser.add_argument(name, required=True)
    asked = parser.parse_args(arguments)
    import boto3

    try:
        pushed = stage(asked.id, asked.revision, asked.digest, asked.bucket, boto3.client("s3"))
    except HeavyliftError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{pushed.uri} is complete: {pushed.sent:,} bytes sent, {pushed.already:,} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
