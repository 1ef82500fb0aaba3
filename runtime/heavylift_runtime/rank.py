"""One rank: a process, the leader of its own process group, and the server's end of its channel. Not its work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heavylift_runtime.engines.interpreter import environment_of, interpreter_of
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.start import Start
from heavylift_runtime.wire import Frames, Message


@dataclass(frozen=True)
class Rank:
    """The process and both directions of its channel."""

    number: int
    process: asyncio.subprocess.Process
    frames: Frames
    channel: asyncio.Transport

    def say(self, message: Message) -> None:
        """Send it a message, unless its end of the channel has closed: its death is on the way to us then."""
        if not self.channel.is_closing():
            self.channel.write(message.encode())

    def waited(self) -> float:
        """Seconds that its threads have waited for a processor; 0 where the kernel does not count them."""
        nanoseconds = 0
        with contextlib.suppress(OSError, ValueError, IndexError):  # it, or a thread of it, has just ended
            for task in os.listdir(f"/proc/{self.process.pid}/task"):
                nanoseconds += int(Path(f"/proc/{self.process.pid}/task/{task}/schedstat").read_text().split()[1])
        return nanoseconds / 1e9

    def kill(self) -> None:
        """Kill the whole group: also what a script has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


async def spawn(
    number: int,
    options: Options,
    folder: Path,
    scratch: Path,
    rendezvous: str,
    environment: Mapping[str, str],
    frames: Frames,
) -> Rank:
    """Start a rank and tell it what it is; LoadError where its interpreter cannot be started."""
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    python = interpreter_of(options, environment)
    command = [python, "-P", "-m", "heavylift_runtime", "worker", "--channel", str(descriptor)]
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(descriptor,),
                start_new_session=True,
                env=environment_of(python, environment),
            )
        except OSError as error:
            ours.close()
            raise LoadError(f"option.pythonExecutable must be a Python: {error}") from error
    channel, _ = await asyncio.get_running_loop().create_unix_connection(lambda: frames, sock=ours)
    channel.write(Message(Start(options, folder, scratch, number, rendezvous).header()).encode())
    return Rank(number, process, frames, channel)
