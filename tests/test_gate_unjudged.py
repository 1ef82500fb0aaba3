"""Deployments that prove nothing, by the real CLI in the embedded AWS: void and undecided runs end rolled back."""

from __future__ import annotations

import json

import pytest

from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_what_could_not_be_judged_does_not_stay_deployed_and_its_report_does(checkout: Checkout) -> None:
    file = checkout.light()
    text = file.read_text()
    up = ("up", "models/tiny-t5.yaml", "--local", "--port", str(checkout.port))
    ends = {
        "VOID": text.replace("  requests: 40\n", "  requests: 100000\n  max_seconds: 5\n"),
        "INCONCLUSIVE": text.replace("  requests: 40\n", "  requests: auto\n  max_usd: 0.0005\n").replace(
            "percentile: 90", "percentile: 99.9"
        ),
    }

    for verdict, changed in ends.items():
        assert changed != text
        file.write_text(changed)
        done = checkout.run(*up)

        assert done.returncode == 4, done.stdout + done.stderr
        assert "nothing was proven, and heavylift-tiny-t5 was rolled back" in done.stderr
        newest = max((checkout.root / ".heavylift" / "reports" / "tiny-t5").iterdir())
        assert json.loads((newest / "report.json").read_text())["verdict"] == verdict
        assert json.loads(checkout.run("status", "--json").stdout)["endpoints"] == []
