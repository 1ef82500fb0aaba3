"""The lock: what the plan learned from outside the model file; JSON beside it, committed.

Not how it is learned: that is heavylift.weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.digest import File, digest
from heavylift.spec import ModelSpec

FORMAT: Literal["heavylift.lock/2"] = "heavylift.lock/2"


@dataclass(frozen=True)
class Files:
    """The user's code folder."""

    digest: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Weights:
    """The model's files; `bytes` counts all of them, config.json and tokenizer included.

    Nobody has read them where `files` is empty: then `bytes` is computed from config.json, and `digest` is `unread`.
    """

    digest: str
    bytes: int
    files: tuple[File, ...]


@dataclass(frozen=True)
class Partitioned:
    """A checkpoint that was split ahead of time can be loaded at this degree and in these numbers only."""

    tensor_parallel_degree: int
    dtype: str


@dataclass(frozen=True)
class LockedModel:
    """`config` is config.json, whole, or None; `dtype`, `parameters` and `tensor_bytes` are None where neither a header
    nor an index tells them, as the last two for a partitioned checkpoint, whose ranks share some tensors."""

    source: str
    revision: str | None
    config: dict[str, Any] | None
    weights: Weights
    dtype: str | None
    parameters: int | None
    tensor_bytes: int | None = None
    partition: Partitioned | None = None


@dataclass(frozen=True)
class Known:
    """What the plan was made with: SHA-256 of the tables of facts, the newest date in each, SHA-256 of coefficients."""

    facts: str
    dates: dict[str, str]
    coefficients: str

    @classmethod
    def now(cls) -> Known:
        """Of the tables that are installed."""
        coefficients = resources.files("heavylift.plan.performance") / "coefficients.json"
        return cls(facts.digest(), facts.dates(), hashlib.sha256(coefficients.read_bytes()).hexdigest())

    def outdated(self) -> str | None:
        """What is newer by now, or None; synthesis takes the tables as they are."""
        now = Known.now()
        newer = [f"{table} of {date}" for table, date in now.dates.items() if date != self.dates.get(table)]
        if self.coefficients != now.coefficients:
            newer.append("the coefficients")
        if self.facts != now.facts and not newer:
            newer.append("the tables of facts")
        return f"planned with older facts: {', '.join(newer)} changed since" if newer else None


@dataclass(frozen=True)
class Lock:
    """models/<name>.lock"""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: Literal["heavylift.lock/2"]
    model: LockedModel
    code: Files | None
    known: Known = field(default_factory=Known.now)
    workload: dict[str, Any] | None = None  # a dataset as heavylift.benchmark/1 carries it
    prompt: Files | None = None  # templates beside the model file

    @classmethod
    def read(cls, path: Path, command: str) -> Lock:
        """Raises InputError, naming the command that writes it, for a lock that is missing, damaged or edited."""
        try:
            text = path.read_bytes()
            lock = _adapter().validate_json(text)
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; write it with `{command}`") from error
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InputError(f"{path} is not a {FORMAT}: {where}: {first['msg']}; write it with `{command}`") from error
        if "known" not in json.loads(text):  # the default is for locks that are made now
            raise InputError(f"{path} is not a {FORMAT}: known: Field required; write it with `{command}`")
        weights = lock.model.weights
        sound = weights.digest == digest(weights.files) and weights.bytes == sum(file.size for file in weights.files)
        if not weights.files:
            sound = weights.digest == unread(lock.model.source, lock.model.revision)
        if not sound or any(each.digest != digest(each.files) for each in (lock.code, lock.prompt) if each is not None):
            raise InputError(f"{path} was edited: its digests do not belong to its files; write it with `{command}`")
        return lock

    def write(self, path: Path) -> None:
        """Atomically: a reader sees the old file or the new one. The same lock gives the same bytes."""
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.to_json())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def to_json(self) -> str:
        """Keys in the order of the classes, those of `config` sorted."""
        document = _adapter().dump_python(self, mode="json")
        for key in ("workload", "prompt"):
            if document[key] is None:
                del document[key]
        if self.model.partition is None:
            del document["model"]["partition"]
        if self.model.config is not None:
            document["model"]["config"] = json.loads(json.dumps(self.model.config, sort_keys=True))
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def stale(self, spec: ModelSpec) -> str | None:
        """Why this lock does not belong to the model file, or None."""
        if self.model.source != str(spec.model):
            return f"the lock is of {self.model.source}, the model file names {spec.model}"
        if self.model.revision != spec.model.revision:
            return f"the lock is of revision {self.model.revision}, the model file names {spec.model.revision}"
        if (self.code is None) != (spec.code is None):
            return f"the lock {'has no' if self.code is None else 'has a'} code folder, unlike the model file"
        given = None if spec.prompt is None else (spec.prompt.chat_template or spec.prompt.template)
        if (self.prompt is None) != (given is None):
            return f"the lock {'has no' if self.prompt is None else 'has'} templates, unlike the model file"
        asked = None if spec.benchmark is None else spec.benchmark.workload
        named = None if asked is None or isinstance(asked, str) else asked.dataset
        locked = None if self.workload is None else self.workload["dataset"]["name"]
        if locked != named:
            return f"the lock has the dataset {locked}, the model file names {named}"
        return None


@cache
def _adapter() -> TypeAdapter[Lock]:
    """Pydantic takes milliseconds to make one, and there may be a hundred locks."""
    return TypeAdapter(Lock)


def unread(source: str, revision: str | None) -> str:
    """What stands for the digest of weights that nobody has read: SHA-256 (hex) of the line `<source> <commit>`."""
    return hashlib.sha256(f"{source} {revision}\n".encode()).hexdigest()


def lock_path(model_file: Path, env: str | None = None) -> Path:
    """`models/x.yaml` → `models/x.lock`, or `models/x.prod.lock` of the environment prod"""
    return model_file.with_suffix(".lock" if env is None else f".{env}.lock")


def read_fresh(spec: ModelSpec, model_file: Path, env: str | None = None) -> Lock:
    """The lock beside a model file. Raises InputError, with the command that mends it, when it is missing or stale."""
    command, path = f"heavylift plan {model_file}{'' if env is None else f' --env {env}'}", lock_path(model_file, env)
    lock = Lock.read(path, command)
    if (reason := lock.stale(spec)) is not None:
        raise InputError(f"{path} is stale: {reason}; write it anew with `{command}`")
    return lock
