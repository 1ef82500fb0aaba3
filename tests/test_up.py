"""The whole flow through the real CLI: up, up again, a missed SLO and its rollback, down; and Ctrl-C on the way."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def up(checkout: Checkout) -> tuple[str, ...]:
    return ("up", "models/tiny-t5.yaml", "--local", "--port", str(checkout.port))


def endpoint_config(checkout: Checkout) -> str:
    endpoints = json.loads(checkout.run("status", "--json").stdout)["endpoints"]
    assert [endpoint["status"] for endpoint in endpoints] == ["InService"]
    config: str = endpoints[0]["endpoint_config"]
    return config


def test_a_model_file_becomes_a_benchmarked_endpoint_and_a_missed_slo_brings_the_old_one_back(
    checkout: Checkout,
) -> None:
    first = checkout.run(*up(checkout))

    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"tiny-t5 +native +none +4 +2 +1 .* normal \(", first.stdout)
    assert "PASS  tiny-t5 met its 3 targets" in first.stdout
    page = Path(re.findall(r"report: (\S+report\.html)", first.stdout)[0])
    assert page.is_file()
    answer = checkout.run("invoke", "models/tiny-t5.yaml", "--local", "write as a Roman numeral: 1994")
    assert answer.stdout == "MCMXCIV\n", answer.stderr

    old = endpoint_config(checkout)
    again = checkout.run(*up(checkout))

    assert again.returncode == 0, again.stdout + again.stderr
    assert "measured then, not again" in again.stdout
    assert endpoint_config(checkout) == old

    file = checkout.root / "models" / "tiny-t5.yaml"
    file.write_text(file.read_text().replace("max_ms: 2000", "max_ms: 0.1").replace("batch_size: 4", "batch_size: 2"))
    missed = checkout.run(*up(checkout))

    assert missed.returncode == 3, missed.stdout + missed.stderr
    assert "UPDATE_ROLLBACK_COMPLETE" in missed.stderr
    assert re.search(r"FAIL  tiny-t5 missed 1 of 3 targets", missed.stdout)
    report = json.loads(
        Path(re.findall(r"report: (\S+report\.html)", missed.stdout)[0]).with_name("report.json").read_text()
    )
    assert report["verdict"] == "FAIL"
    assert endpoint_config(checkout) == old
    answer = checkout.run("invoke", "models/tiny-t5.yaml", "--local", "write as a Roman numeral: 1994")
    assert answer.stdout == "MCMXCIV\n", answer.stderr

    down = checkout.run("down")

    assert (down.returncode, checkout.processes()) == (0, [])
    assert page.is_file(), "reports outlive the embedded AWS"
    assert checkout.run("down").stdout == "nothing is up\n"


@pytest.mark.parametrize("moment", ["embedded AWS", "cdk synth", "foundation stack", "AWS::SageMaker::Endpoint "])
def test_ctrl_c_leaves_nothing_running(checkout: Checkout, moment: str) -> None:
    with checkout.start(*up(checkout)) as command:
        assert command.stdout is not None
        assert any(moment in line for line in command.stdout), f"the command never came to {moment}"

        command.send_signal(signal.SIGINT)
        said = command.stdout.read()

    assert command.returncode == 130, said
    assert "Traceback" not in said
    assert checkout.processes() == []
    assert checkout.run("status").stdout == "nothing is up\n"


def test_ctrl_c_during_an_update_brings_the_old_endpoint_back(checkout: Checkout) -> None:
    assert checkout.run(*up(checkout)).returncode == 0
    old = endpoint_config(checkout)
    file = checkout.root / "models" / "tiny-t5.yaml"
    slow = {
        "batch_size: 4": "batch_size: 2",
        "requests: 100": "requests: 20000",
    }  # the update must outlast the interrupt
    text = file.read_text()
    for before, after in slow.items():
        text = text.replace(before, after)
    file.write_text(text)

    with checkout.start(*up(checkout)) as command:
        assert command.stdout is not None
        assert any(re.search(r"UPDATE_IN_PROGRESS +Custom::HeavyliftBenchmarkGate ", line) for line in command.stdout)
        command.send_signal(signal.SIGINT)
        said = command.stdout.read()

    assert command.returncode == 130, said
    assert "heavylift-tiny-t5 is UPDATE_ROLLBACK_COMPLETE" in said
    assert endpoint_config(checkout) == old


def test_a_second_up_is_refused_while_one_is_at_work(checkout: Checkout) -> None:
    with checkout.start(*up(checkout)) as command:
        assert command.stdout is not None
        assert any("embedded AWS" in line for line in command.stdout)

        second, down = checkout.run(*up(checkout)), checkout.run("down")
        command.send_signal(signal.SIGINT)
        command.stdout.read()

    assert (second.returncode, down.returncode) == (1, 1)
    assert "'heavylift up' (process" in second.stderr
    assert "is at work" in down.stderr
