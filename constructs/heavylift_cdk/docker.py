"""How an image of container/ is built, in words of `docker build`; who runs it, CodeBuild or a test, says where.

No AWS and no CDK here.
"""

from __future__ import annotations

from collections.abc import Mapping


def build_arguments(hardware: str, tag: str, context: str, arguments: Mapping[str, str]) -> list[str]:
    """Of `docker build`: the Dockerfile of `hardware` below the folder `context`; `arguments` are its ARGs."""
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    return [f"--file={context}/container/Dockerfile.{hardware}", f"--tag={tag}", *given, context]
