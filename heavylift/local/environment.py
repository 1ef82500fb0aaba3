"""The environment in which a program reaches the embedded AWS, and nothing real by accident.

Not the daemon's own, nor a model's: those hold nothing of the user's at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from heavylift.errors import InputError

REGION = "us-east-1"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def aws_variables(port: int) -> dict[str, str]:
    """What leads an SDK to the embedded AWS on that port: address, region, keys that open nothing else."""
    return {
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def without_aws(base: Mapping[str, str]) -> dict[str, str]:
    """`base` without any AWS setting: what pip, npm and Node are given, which have no business with an account."""
    return {name: value for name, value in base.items() if not name.upper().startswith(("AWS_", "AMAZON_", "BOTO_"))}


def environment(port: int, base: Mapping[str, str]) -> dict[str, str]:
    """`base` without any AWS setting of the user's, with the embedded AWS's: what boto3 and the CDK CLI are given.

    Profiles and configuration files are set aside, because they may name an account or another address; a proxy is not
    asked for this machine.
    """
    direct = {name: ",".join(filter(None, [base.get(name), *_LOOPBACK])) for name in ("NO_PROXY", "no_proxy")}
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**without_aws(base), **direct, **files, **aws_variables(port), "CDK_DISABLE_CLI_TELEMETRY": "true"}


def refuse_real_aws(environ: Mapping[str, str]) -> None:
    """Raise InputError, with every fault, when a program in this environment could reach a real AWS account."""
    faults = []
    if "AWS_ENDPOINT_URL" not in environ:
        faults.append("AWS_ENDPOINT_URL is not set: a program would reach the real AWS; it must name the embedded AWS")
    for name, value in environ.items():
        if name.startswith("AWS_ENDPOINT_URL") and not _is_loopback(value):
            faults.append(f"{name} is '{value}', which is not this machine; unset it")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        if name in environ:
            faults.append(f"{name} is set, and may name a real account; unset it")
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false").lower() != "false":
        faults.append("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is set: AWS_ENDPOINT_URL would not count; unset it")
    if faults:
        raise InputError(faults)


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:
        return False
