"""Secrets by ARN: each <NAME>_SECRET_ARN of the container's environment becomes <NAME>, looked up as the server starts.

Not a store of our own: AWS Secrets Manager holds the values, and the endpoint's role may read exactly those that it
was told of. A value is in this process and its children only: in no template, no DescribeModel and no log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift_runtime.errors import LoadError, OptionsError

SUFFIX = "_SECRET_ARN"
TRIES, SECONDS = 5, 10
"""Of one look-up: the network of an instance that has just started may not be up yet."""


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Name → value of every secret that the environment names; no call where it names none.

    Raises OptionsError for names and ARNs that cannot be meant, LoadError for secrets that cannot be read; all at once.
    """
    named = {name.removesuffix(SUFFIX): arn for name, arn in environ.items() if name.endswith(SUFFIX)}
    if faults := [fault for name, arn in sorted(named.items()) for fault in _faults(name, arn, environ)]:
        raise OptionsError(faults)
    clients: dict[str, Any] = {}
    values, missing = dict[str, str](), list[str]()
    for name, arn in sorted(named.items()):
        region = arn.split(":")[3]
        if region not in clients:
            clients[region] = _client(region)
        value = _read(clients[region], arn)
        if isinstance(value, LoadError):
            missing.append(f"'{name}': {value}")
        else:
            values[name] = value
    if missing:
        raise LoadError("\n".join(missing))
    return values


def _faults(name: str, arn: str, environ: Mapping[str, str]) -> list[str]:
    if not name.isidentifier():
        return [f"'{name}{SUFFIX}' names no variable: letters, digits and '_' come before {SUFFIX}"]
    found = []
    parts = arn.split(":")
    if len(parts) < 7 or parts[0] != "arn" or parts[2] != "secretsmanager" or parts[5] != "secret" or not parts[3]:
        found.append(
            f"'{name}{SUFFIX}' must be the ARN of a secret (arn:aws:secretsmanager:…:secret:…); got {arn[:200]!r}"
        )
    if name in environ:
        found.append(f"'{name}' and '{name}{SUFFIX}' are both in the environment; keep the secret's ARN")
    return found


def _client(region: str) -> Any:
    import boto3  # only containers with secrets need it
    from botocore.config import Config

    retries = {"total_max_attempts": TRIES, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=SECONDS, read_timeout=SECONDS)
    return boto3.client("secretsmanager", region_name=region, config=config)


def _read(client: Any, arn: str) -> str | LoadError:
    """The secret's text, or why there is none; no sentence has a part of the value in it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text = client.get_secret_value(SecretId=arn).get("SecretString")
    except (ClientError, BotoCoreError) as error:
        return LoadError(
            f"the secret {arn} cannot be read: {error}; the endpoint's role needs secretsmanager:GetSecretValue on it, "
            "and kms:Decrypt where it has a key of its own"
        )
    if not isinstance(text, str):
        return LoadError(f"the secret {arn} is binary: a variable needs text")
    if "\0" in text:
        return LoadError(f"the secret {arn} holds a zero byte, which no environment variable can")
    return text
