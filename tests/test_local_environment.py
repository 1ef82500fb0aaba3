"""The environment in which programs reach the embedded AWS, and nothing real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heavylift.commands import aim
from heavylift.errors import InputError
from heavylift.local.embedded import EmbeddedAws, Running
from heavylift.local.environment import environment, refuse_real_aws
from heavylift.project import Project

USERS = {
    "PATH": "/bin",
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com",
    "AWS_CONFIG_FILE": "/home/me/.aws/config",
    "NO_PROXY": "intranet",
    "https_proxy": "http://proxy:3128",
}


def test_the_users_aws_settings_do_not_survive_and_the_rest_does() -> None:
    environ = environment(4599, USERS)

    refuse_real_aws(environ)
    assert environ["PATH"] == "/bin"
    assert environ["https_proxy"] == "http://proxy:3128"
    assert environ["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"
    assert environ["AWS_ENDPOINT_URL"] == "http://localhost:4599"
    assert environ["AWS_CONFIG_FILE"] == environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert {name for name in environ if name.startswith("AWS_")} == {
        *("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"),
    }


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"AWS_ENDPOINT_URL": "https://sts.amazonaws.com"}, "AWS_ENDPOINT_URL is 'https://sts.amazonaws.com'"),
        ({"AWS_ENDPOINT_URL": "http://localhost.attacker.example:4566"}, "not this machine"),
        ({"AWS_ENDPOINT_URL": "http://[broken"}, "not this machine"),
        ({"AWS_ENDPOINT_URL_SAGEMAKER": "https://api.sagemaker.amazonaws.com"}, "AWS_ENDPOINT_URL_SAGEMAKER is"),
        ({"AWS_PROFILE": "production"}, "AWS_PROFILE is set"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is set"),
    ],
)
def test_an_environment_that_could_reach_a_real_account_is_refused(changed: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        refuse_real_aws({**environment(4599, {}), **changed})


def test_every_danger_is_named_at_once() -> None:
    with pytest.raises(InputError) as raised:
        refuse_real_aws(USERS)

    assert len(raised.value.faults) == 4


def test_what_is_started_before_the_embedded_aws_gets_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    heard: dict[str, str] = {}

    def start(self: EmbeddedAws, **given: object) -> Running:
        heard.update(os.environ)
        return Running(1, "1", 4566, "x")

    monkeypatch.setattr(EmbeddedAws, "start", start)
    before = dict(os.environ)
    try:
        aim.start(Project(tmp_path), None)
    finally:
        os.environ.clear()
        os.environ.update(before)

    assert "PATH" in heard and "AWS_SECRET_ACCESS_KEY" not in heard
