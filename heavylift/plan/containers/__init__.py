"""AWS's Deep Learning Containers: which versions there are, where, and whose engines they have.

Not their URIs' making: heavylift_cdk.RuntimeImage. `dlc.json` is sagemaker-core's, written by write_dlc.py.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib import resources
from typing import Any

ENGINES: dict[str, tuple[str, ...]] = {
    "lmi": ("vllm", "accelerate", "script"),
    "vllm": ("vllm",),
    "deepspeed": ("deepspeed", "vllm", "accelerate", "script"),
    "fastertransformer": ("fastertransformer", "accelerate", "script"),
    "neuronx": ("neuronx", "script"),
}
"""By framework, the engines of ours that its containers have under the same name: what DJL Serving's release notes list
(https://github.com/deepjavalibrary/djl-serving/releases); AWS's vLLM container has its own server and no model.py."""


def versions(framework: str) -> dict[str, dict[str, Any]]:
    """The containers of a framework by version: `repository`, `tag`, and the regions that they are `not_in`."""
    found: dict[str, dict[str, Any]] = table()["frameworks"][framework]
    return found


def accounts(framework: str, version: str) -> dict[str, str]:
    """Region → the account whose registry has the container."""
    missing = versions(framework)[version]["not_in"]
    return {region: account for region, account in table()["accounts"].items() if region not in missing}


def fault(framework: str, version: str, region: str | None) -> str | None:
    """Why there is no such container, or not in that region (None: any); None where there is."""
    known = versions(framework)
    if version not in known:
        near = difflib.get_close_matches(version, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"no {framework} container of version '{version}'; there are {', '.join(known)}{hint}"
    if region is not None and region not in (there := accounts(framework, version)):
        return f"{framework} {version} is not in '{region}'; it is in {', '.join(there)}"
    return None


@cache
def table() -> dict[str, Any]:
    """As it is in the file."""
    read: dict[str, Any] = json.loads((resources.files(__package__) / "dlc.json").read_text("utf-8"))
    return read
