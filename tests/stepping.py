"""A small engine that steps, and a copy of it in a thread, behind the real loop and wire. For the server's tests.

The parrot says each word of its prompt, one at a step. Its prompt may ask for trouble: see `Parrot.add` and `step`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

from heavylift_runtime.engines.engine import Piece, Request, Token
from heavylift_runtime.errors import PromptError
from heavylift_runtime.ranks import Duty
from heavylift_runtime.steps import roll
from heavylift_runtime.wire import Channel, Frames, Message


class Parrot:
    """Runs at most `capacity` prompts at once; `gate`, called before each step, may hold it up."""

    def __init__(self, capacity: int = 4, gate: Callable[[], object] = lambda: None) -> None:
        self.capacity = capacity
        self.cancelled: list[int] = []
        self.most_running = 0
        self._gate = gate
        self._waiting: dict[int, Request] = {}
        self._running: dict[int, tuple[Request, list[str], int]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, key: int, request: Request) -> None:
        assert isinstance(request.prompt, str)
        if request.prompt.startswith("poison"):
            raise PromptError("poison is not food")
        if request.prompt.startswith("bug"):
            raise ZeroDivisionError("a bug in the tokenizer")
        self._waiting[key] = request

    def cancel(self, key: int) -> None:
        self.cancelled.append(key)
        self._waiting.pop(key, None)
        self._running.pop(key, None)

    def step(self) -> list[Piece]:
        self._gate()
        while self._waiting and len(self._running) < self.capacity:
            key = next(iter(self._waiting))
            request = self._waiting.pop(key)
            assert isinstance(request.prompt, str)
            self._running[key] = (request, request.prompt.split(" "), 0)
        self.most_running = max(self.most_running, len(self._running))
        return [self._say(key) for key in list(self._running)]

    def _say(self, key: int) -> Piece:
        request, words, said = self._running[key]
        if words[said] == "memory":
            del self._running[key]
            return Piece(key, (), None, len(words), said, (507, "memory ran out"))
        if words[said] == "die":
            raise RuntimeError("the parrot is dead")
        text = words[said] if said == 0 else f" {words[said]}"
        said += 1
        ended = said == len(words) or said == request.sampling.max_new_tokens
        finish = None if not ended else "eos_token" if said == len(words) else "length"
        if ended:
            del self._running[key]
        else:
            self._running[key] = (request, words, said)
        return Piece(key, (Token(100 + said, text, -0.5),), finish, len(words), said)

    def forget(self) -> None:
        """Be as new."""
        self._waiting.clear()
        self._running.clear()

    def follow(self) -> None:
        raise AssertionError("a parrot has one rank")

    def close(self) -> None:
        """Nothing to let go."""


class ThreadCopy:
    """What the server's lines know of ranks.Copy, with the engine in a thread of this process; it rises again."""

    def __init__(self, engine: Parrot, duty: Duty, number: int = 0) -> None:
        self.number = number
        self.capacity = engine.capacity
        self.ready = asyncio.Event()
        self.stage = "ready"
        self.deaths: list[str] = []
        self._engine = engine
        self._duty = duty

    async def start(self) -> None:
        """Begin to work."""
        ours, theirs = socket.socketpair()
        self._frames = Frames(self._hear, self._fail)
        loop = asyncio.get_running_loop()
        self._writer, _ = await loop.create_unix_connection(lambda: self._frames, sock=ours)
        self._thread = threading.Thread(target=_roll, args=(self._engine, Channel(theirs)), daemon=True)
        self._thread.start()
        self._watcher = asyncio.create_task(self._watch())
        self.ready.set()
        self._duty.rose(self)  # type: ignore[arg-type]

    def tell(self, message: Message) -> None:
        """Send work, unless the thread has ended: its death is on the way to us then, as a rank's is (rank.py)."""
        if not self._writer.is_closing():
            self._writer.write(message.encode())

    def waited(self) -> float:
        """Seconds without a processor."""
        return 0.0

    async def end(self) -> None:
        """Stop the thread."""
        self.tell(Message({"type": "stop"}))
        self._watcher.cancel()
        await self._close()

    async def _close(self) -> None:
        await asyncio.to_thread(self._thread.join, 10)
        self._writer.close()
        await self._frames.over.wait()

    def _hear(self, message: Message) -> None:
        self._duty.heard(self, message)  # type: ignore[arg-type]

    def _fail(self, error: Exception) -> None:
        raise AssertionError("a message that cannot be read") from error

    async def _watch(self) -> None:
        await self._frames.over.wait()
        self.ready.clear()
        self.deaths.append("the thread of the copy ended")
        self._duty.fell(self, self.deaths[-1])  # type: ignore[arg-type]
        await self._close()
        self._engine.forget()
        await self.start()


def _roll(engine: Parrot, channel: Channel) -> None:
    with contextlib.suppress(RuntimeError, EOFError):  # a process would end of it, and its end of the channel close
        roll(engine, channel)
    channel.hang_up()
    channel.close()
