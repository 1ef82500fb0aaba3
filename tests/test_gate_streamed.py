"""A streamed benchmark through the real CLI and the embedded AWS: tokens timed one by one, over SageMaker's stream."""

from __future__ import annotations

import json

import pytest

from heavylift.benchmark.samples import Recording
from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SLO = """  stream: true
  slo:
    - {metric: ttft, percentile: 90, max_ms: 60000}
    - {metric: itl, percentile: 90, max_ms: 60000}
    - {metric: tpot, percentile: 90, max_ms: 60000}
"""


def test_a_deployment_is_gated_by_the_times_of_its_tokens(checkout: Checkout) -> None:
    file = checkout.light()
    enough = file.read_text().replace("requests: 40\n", "requests: 60\n")  # one row each: 59 certify the quality
    file.write_text(enough.replace("  slo:\n", SLO))

    done = checkout.run("up", "models/tiny-t5.yaml", "--local", "--port", str(checkout.port))

    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (checkout.root / ".heavylift" / "reports" / "tiny-t5").iterdir()
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "PASS"
    assert {each["metric"]: each["outcome"] for each in report["judgements"]} == {
        "ttft": "pass", "itl": "pass", "tpot": "pass", "e2e_latency": "pass", "error_rate": "pass", "quality": "pass",
    }  # fmt: skip
    ttft, itl, tpot, e2e = (report[key]["p50"] for key in ("ttft_ms", "itl_ms", "tpot_ms", "latency_ms"))
    assert 0 < ttft < e2e and 0 < tpot < e2e
    assert 0 <= itl < e2e, "tokens of steps shorter than the server's 2 ms of company arrive together"
    assert report["itl_ms"]["count"] > report["ttft_ms"]["count"], "gaps are between tokens, not one for each request"
    assert report["attribution_ms"]["generation"] is not None
    measured = Recording.load(folder / "samples.jsonl.gz").measured
    for sample in measured:
        assert sample.first_byte_s is not None and sample.first_token_s is not None and sample.gaps_us is not None
        assert sample.sent_s < sample.first_byte_s <= sample.first_token_s <= sample.end_s
        (row,) = sample.rows
        assert row.generated_tokens is not None and len(sample.gaps_us) < row.generated_tokens
