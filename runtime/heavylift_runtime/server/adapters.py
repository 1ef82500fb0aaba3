"""The adapters of one model, kept the same on all of its copies. Not their HTTP API: that is in adapter_routes.py.

An adapter is a folder of this container, as peft writes it, under a name that requests use. A copy that comes back is
told of all of them before it gets a row; what it cannot load is then forgotten, and said so, rather than answered by
the base model.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from heavylift_runtime.ranks import Copy
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.wire import Message

HEADERS = ("x-amzn-sagemaker-adapter-identifier", "x-amzn-sagemaker-adapter-alias")
FOLDER = "adapters"
"""Of a model's folder: each folder in it is an adapter from the start, as in LMI."""
_MOST = 10_000
_GONE = None  # what a dead copy answers: it will be told again when it comes back

Fault = tuple[int, str]


class Adapters:
    """Their names, and the folder of each."""

    def __init__(self, sources: Mapping[str, str], report: Callable[[int, str], None]) -> None:
        """`sources`: those from the start; `report` is told of a copy's number what it cannot load."""
        self._sources = dict(sources)
        self._unsure: set[str] = set()  # not loaded on every copy yet
        self._report = report
        self._copies: list[Copy] = []
        self._turns = itertools.count(1)
        self._awaited: dict[int, tuple[Copy, asyncio.Future[Fault | None]]] = {}
        self._rising: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    @property
    def names(self) -> frozenset[str]:
        """Those that requests may ask for."""
        return frozenset(self._sources.keys() - self._unsure)

    def listed(self) -> list[dict[str, str]]:
        """By name."""
        return [self.described(name) for name in sorted(self.names)]

    def described(self, name: str) -> dict[str, str]:
        """One of them; raises Refused (404)."""
        if name not in self.names:
            raise Refused(404, f"no adapter {name[:80]!r}: POST /adapters registers one")
        return {"name": name, "src": self._sources[name]}

    def wanted(self, headers: Mapping[str, str]) -> str | None:
        """The one that the platform's headers ask for; raises Refused (404)."""
        asked = [headers[name] for name in HEADERS if name in headers]
        if not asked:
            return None
        return next((name for name in asked if name in self.names), None) or self.described(asked[0])["name"]

    async def add(self, name: str, source: str) -> None:
        """Load one on every copy; raises Refused (404, 409, 424, 503, 507), and then no copy keeps it."""
        async with self._lock:
            if name in self._sources:
                raise Refused(409, f"adapter {name[:80]!r} is registered already: PUT gives it another folder")
            if len(self._sources) >= _MOST:
                raise Refused(507, f"{_MOST} adapters are registered: delete some")
            await self._load(name, source)

    async def replace(self, name: str, source: str | None = None) -> None:
        """Load one anew, of another folder; as `add`, and after a failure the old one is loaded again."""
        async with self._lock:
            before = self.described(name)["src"]
            try:
                await self._load(name, before if source is None else source)
            except Refused:
                self._sources[name] = before
                await self._tell_all(name, before)
                raise

    async def remove(self, name: str) -> None:
        """Forget one; raises Refused (404). Requests that have it already keep it."""
        async with self._lock:
            self.described(name)
            del self._sources[name]
            await self._tell_all(name, None)

    def rose(self, copy: Copy) -> None:
        """A copy has loaded: it is told of all, before anything else."""
        self._copies.append(copy)
        for name, source in self._sources.items():
            task = asyncio.create_task(self._again(copy, name, self._tell(copy, name, source)))
            self._rising.add(task)
            task.add_done_callback(self._rising.discard)

    def fell(self, copy: Copy) -> None:
        """A copy is dead."""
        self._copies.remove(copy)
        for turn in [turn for turn, (each, _) in self._awaited.items() if each is copy]:
            self._settle(turn, _GONE)

    def heard(self, message: Message) -> None:
        """A copy's answer; raises KeyError or TypeError where it is none."""
        error = message.header.get("error")
        self._settle(int(message.header["turn"]), None if error is None else (int(message.header["code"]), str(error)))

    async def _load(self, name: str, source: str) -> None:
        if not (Path(source).is_absolute() and Path(source).is_dir()):
            raise Refused(404, f"'src' must be a folder of this container: got {source[:200]!r}")
        if not self._copies:
            raise Refused(503, "the model is not ready", retry_after=1)
        self._sources[name] = source
        self._unsure.add(name)
        try:
            fault = await self._tell_all(name, source)
        except asyncio.CancelledError:
            fault = (503, "the server stops")
        self._unsure.discard(name)
        if fault is not None:
            del self._sources[name]
            await self._tell_all(name, None)
            raise Refused(fault[0], f"adapter {name!r} cannot be loaded: {fault[1]}")

    async def _again(self, copy: Copy, name: str, answer: asyncio.Future[Fault | None]) -> None:
        fault = await answer
        if fault is not None and name not in self._unsure:
            self._sources.pop(name, None)
            self._report(copy.number, f"adapter {name!r} cannot be loaded and is gone: {fault[1]}")

    async def _tell_all(self, name: str, source: str | None) -> Fault | None:
        """The first fault of any copy."""
        answers = await asyncio.gather(*(self._tell(copy, name, source) for copy in self._copies))
        return next((fault for fault in answers if fault is not None), None)

    def _tell(self, copy: Copy, name: str, source: str | None) -> asyncio.Future[Fault | None]:
        turn, answer = next(self._turns), asyncio.get_running_loop().create_future()
        self._awaited[turn] = copy, answer
        copy.tell(Message({"type": "adapter", "turn": turn, "name": name, "src": source}))
        return answer

    def _settle(self, turn: int, fault: Fault | None) -> None:
        _, answer = self._awaited.pop(turn, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(fault)


def found(folder: Path) -> dict[str, str]:
    """The adapters in a model's folder: name → folder."""
    within = folder / FOLDER
    return {path.name: str(path) for path in sorted(within.iterdir()) if path.is_dir()} if within.is_dir() else {}
