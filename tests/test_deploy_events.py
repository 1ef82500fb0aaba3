"""What a person sees of the CDK CLI's lines, and what the log keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.deploy.events import Transcript, brief

FIRST = (
    "heavylift-tiny-t5 |  9/12 | 12:27:51 AM | CREATE_COMPLETE         | AWS::SageMaker::Model          "
    "| Endpoint/Model (EndpointModel0F230181)\n"
)
FAILED = (
    "heavylift-tiny-t5 | 12:28:02 AM | CREATE_FAILED           | Custom::HeavyliftBenchmarkGate "
    "| BenchmarkGate/Resource/Default (BenchmarkGate51899A5B) tiny-t5 missed its targets (FAIL)\n"
)


def test_an_event_keeps_status_type_path_and_reason_and_drops_the_logical_id() -> None:
    assert brief(FIRST) == f"{'CREATE_COMPLETE':<27} {'AWS::SageMaker::Model':<34} Endpoint/Model"
    shown = brief(FAILED)

    assert shown is not None
    assert shown.endswith("BenchmarkGate/Resource/Default tiny-t5 missed its targets (FAIL)")


@pytest.mark.parametrize(("kind", "seen"), [("AWS::SageMaker::Endpoint", True), ("AWS::IAM::Role", False)])
def test_only_what_takes_long_is_seen_when_it_begins(kind: str, seen: bool) -> None:
    line = f"stack |  0/12 | 12:27:50 AM | CREATE_IN_PROGRESS      | {kind:<30} | Name (Id)"

    assert (brief(line) is not None) is seen


@pytest.mark.parametrize("line", ["", "✨  Deployment time: 0.12s", "Stack ARN:", "heavylift-x: deploying... [1/1]"])
def test_other_lines_are_not_shown(line: str) -> None:
    assert brief(line) is None


def test_the_log_keeps_every_line_and_a_repeated_failure_is_shown_once(tmp_path: Path) -> None:
    shown: list[str] = []
    lines = [FIRST, "Deployment time\n", FAILED, "Failed resources:\n", FAILED]

    with Transcript(tmp_path / "logs" / "x.log", shown.append) as transcript:
        for line in lines:
            transcript(line)

    assert len(shown) == 2
    assert (tmp_path / "logs" / "x.log").read_text() == "".join(lines)
