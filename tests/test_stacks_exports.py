"""What the foundation exports: names that deployed serving stacks import, and that CloudFormation lets nobody drop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cdk import plan, synthesize

EXPORTED = {
    f"heavylift-foundation:ExportsOutput{name}"
    for name in (
        "RefWeights79DEE8EFABCD5F41", "FnGetAttWeights79DEE8EFArn34D27ADE",
        "RefReports65402A0A5E09D1ED", "FnGetAttReports65402A0AArn549BAC56",
        "RefImages2D38C3131DF9B1C4", "FnGetAttImages2D38C313Arn6C6DDC6E",
        "RefLog95422804C3867A0B", "FnGetAttLog95422804Arn29847472",
        "RefRole1ABCC5F06F481065", "FnGetAttRole1ABCC5F0ArnB4C0B73E", "FnGetAttKey961B73FDArn5A860C43",
    )
}  # fmt: skip
"""As they have been deployed: one more is taken, one fewer or another name breaks every model's next update."""


def imported(value: Any) -> Iterator[str]:
    """All names of Fn::ImportValue."""
    match value:
        case {"Fn::ImportValue": str(name)}:
            yield name
        case dict():
            for each in value.values():
                yield from imported(each)
        case list():
            for each in value:
                yield from imported(each)


def test_the_foundations_exports_keep_their_names_and_serving_stacks_import_no_others(tmp_path: Path) -> None:
    made = synthesize(tmp_path, plan())

    exports = {
        each["Export"]["Name"] for each in made.json("heavylift-foundation")["Outputs"].values() if "Export" in each
    }
    assert exports == EXPORTED
    asked = set(imported(made.json("heavylift-tiny-t5")))
    assert asked and asked <= EXPORTED


def test_a_serving_stack_says_the_endpoints_name_and_its_configurations(tmp_path: Path) -> None:
    outputs = synthesize(tmp_path, plan()).json("heavylift-tiny-t5")["Outputs"]

    assert set(outputs) == {"EndpointName", "EndpointConfigName"}
    assert not [name for name, each in outputs.items() if "Export" in each], "no stack depends on a model"
