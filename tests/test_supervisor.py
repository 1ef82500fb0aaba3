"""What the supervisor tells of its copies while they change; their deaths and restarts are in test_serve.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from heavylift_runtime.options import Options
from heavylift_runtime.ranks import Copy
from heavylift_runtime.supervisor import Health, Supervisor
from heavylift_runtime.wire import Message
from tests.served import write_script


class Asking:
    """A duty that asks for the health whenever a copy has risen, before the event loop turns again."""

    def __init__(self) -> None:
        self.supervisor: Supervisor
        self.said: list[Health] = []

    def rose(self, copy: Copy) -> None:
        self.said.append(self.supervisor.health())

    def heard(self, copy: Copy, message: Message) -> None: ...

    def fell(self, copy: Copy, reason: str) -> None: ...


def test_health_can_be_asked_in_the_moment_in_which_the_last_copy_is_ready(tmp_path: Path) -> None:
    folder = write_script(
        tmp_path / "model", "def handle(inputs):\n    return inputs\n", "engine=Python\nminWorkers=2\n"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    async def run() -> list[Health]:
        duty = Asking()
        duty.supervisor = Supervisor(Options.load(folder, {}), folder, scratch, duty)
        duty.supervisor.start()
        await asyncio.wait_for(duty.supervisor.started.wait(), 60)
        await duty.supervisor.stop()
        return duty.said

    first, last = asyncio.run(run())

    assert (first.ready, first.status.partition(":")[0]) == (False, "loading")
    assert (last.ready, last.status) == (True, "ready")
