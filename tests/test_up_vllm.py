"""The whole flow with the real vLLM as the endpoint's engine: `heavylift up models/tiny-llama-vllm.yaml --local`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift_runtime.engines.interpreter import own_environment
from heavylift_runtime.engines.registry import ENGINES
from tests.checkout import ROOT, Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILE = "models/tiny-llama-vllm.yaml"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    row = ENGINES["vllm"]
    if own_environment(row, ROOT) is None:
        pytest.skip(str(row.missing()))
    made = Checkout.make(tmp_path)
    (made.root / ".venv-vllm").symlink_to(ROOT / ".venv-vllm")
    file = made.root / FILE
    file.write_text(file.read_text().replace("max_ms: 4000", "max_ms: 60000"))  # how fast it is, is no matter here
    yield made
    made.run("down")


def test_a_model_file_becomes_an_endpoint_that_vllm_answers_for(checkout: Checkout) -> None:
    done = checkout.run("up", FILE, "--local", "--port", str(checkout.port))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS  tiny-llama-vllm met its 3 targets" in done.stdout
    answer = checkout.run("invoke", FILE, "--local", "write in words: 298")
    assert answer.stdout == " two hundred and ninety-eight\n", answer.stderr  # the prompt goes on: a space first
