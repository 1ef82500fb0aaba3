"""`on_fail: hold` through the real CLI and the embedded AWS: the stack stays, the alarm rings, a pass silences it."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def wait_for_alarm(checkout: Checkout, state: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        (alarm,) = checkout.client("cloudwatch").describe_alarms()["MetricAlarms"]
        if alarm["StateValue"] == state:
            return
        assert time.monotonic() < deadline, alarm
        time.sleep(0.5)


def test_a_held_deployment_stays_rings_and_is_silenced_by_a_pass(checkout: Checkout) -> None:
    file = checkout.root / "models" / "tiny-t5-too-slow.yaml"
    enough = file.read_text().replace("  requests: 20\n", "  requests: 40\n")  # 22 without a miss certify a P90
    file.write_text(enough + "gate: {on_fail: hold}\n")
    up = ("up", "models/tiny-t5-too-slow.yaml", "--local", "--port", str(checkout.port))

    held = checkout.run(*up)

    assert held.returncode == 3, held.stdout + held.stderr
    assert "tiny-t5-too-slow is held as it is" in held.stderr
    assert re.search(r"FAIL  tiny-t5-too-slow missed 1 of 2 targets", held.stdout)
    found = json.loads(checkout.run("status", "--json").stdout)
    assert [each["status"] for each in found["endpoints"]] == ["InService"]
    assert {each["name"]: each["status"] for each in found["stacks"]}["heavylift-tiny-t5-too-slow"] == "CREATE_COMPLETE"
    wait_for_alarm(checkout, "ALARM")

    assert checkout.run(*up).returncode == 3, "a second deployment of the same does not make it good"

    file.write_text(file.read_text().replace("max_ms: 0.1", "max_ms: 60000"))
    passed = checkout.run(*up)

    assert passed.returncode == 0, passed.stdout + passed.stderr
    wait_for_alarm(checkout, "OK")
