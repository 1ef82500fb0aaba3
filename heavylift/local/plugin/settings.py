"""Settings: everything that the daemon is told when it starts, as one JSON argument.

Not the environment that MiniStack reads: heavylift.local.embedded writes that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the daemon serves, where, and how it starts a model's process."""

    home: Path
    """The folder of endpoints/, tmp/ and the logs; private to the user."""
    port: int
    account: str
    region: str
    token: str
    """Answered by /_heavylift/health: it proves that the daemon on the port is the one that was started."""
    command: tuple[str, ...]
    """The model server's argv; the arguments `{model_dir}` and `{port}` stand for their values."""
    runtime_root: Path
    """The source root of the runtime, its PYTHONPATH."""

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings in `text`, as heavylift.local.embedded writes them."""
        given = json.loads(text)
        return cls(
            home=Path(given["home"]),
            port=int(given["port"]),
            account=given["account"],
            region=given["region"],
            token=given["token"],
            command=tuple(given["command"]),
            runtime_root=Path(given["runtime_root"]),
        )

    @property
    def url(self) -> str:
        """The one address of every AWS service."""
        return f"http://localhost:{self.port}"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"
