"""Secrets by ARN: what becomes of <NAME>_SECRET_ARN as the server starts, and what is said where that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.secret_values import secret_values

REGION = "eu-west-1"
MISSING = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:gone-AbCdEf"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("secretsmanager", region_name=REGION)


def test_a_container_without_secrets_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boto3.client", lambda *_, **__: pytest.fail("a call"))

    assert secret_values({"HF_TOKEN": "x", "LOG_LEVEL": "info"}) == {}


def test_the_value_is_looked_up_where_its_arn_says(store: Any) -> None:
    arn = store.create_secret(Name="hub", SecretString="hf_abc")["ARN"]

    assert secret_values({"HF_TOKEN_SECRET_ARN": arn, "AWS_REGION": "us-east-1"}) == {"HF_TOKEN": "hf_abc"}


def test_every_secret_that_cannot_be_read_is_named_and_no_value_is(store: Any) -> None:
    good = store.create_secret(Name="good", SecretString="hf_abc")["ARN"]
    binary = store.create_secret(Name="binary", SecretBinary=b"\x00hf_abc")["ARN"]
    zero = store.create_secret(Name="zero", SecretString="hf\0abc")["ARN"]

    with pytest.raises(LoadError) as caught:
        secret_values({"A_SECRET_ARN": good, "B_SECRET_ARN": MISSING, "C_SECRET_ARN": binary, "D_SECRET_ARN": zero})

    told = str(caught.value).splitlines()
    assert [line[:3] for line in told] == ["'B'", "'C'", "'D'"]
    assert "secretsmanager:GetSecretValue" in told[0]
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"A_SECRET_ARN": "hf_abc"}, "'A_SECRET_ARN' must be the ARN of a secret"),
        ({"A_SECRET_ARN": "arn:aws:s3:eu-west-1:123456789012:secret:a-AbCdEf"}, "must be the ARN of a secret"),
        ({"A_SECRET_ARN": MISSING, "A": "hf_abc"}, "'A' and 'A_SECRET_ARN' are both in the environment"),
        ({"_SECRET_ARN": MISSING}, "'_SECRET_ARN' names no variable"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_call(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        secret_values(environ)
