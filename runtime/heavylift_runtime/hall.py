"""The models of one multi-model server: loaded, found, unloaded while it runs. Not the HTTP API: server/models.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from heavylift_runtime.errors import MemoryFault, OptionsError
from heavylift_runtime.hosted import Hosted
from heavylift_runtime.memory import MEGABYTE, free_bytes, weight_bytes
from heavylift_runtime.options import Options, model_folder
from heavylift_runtime.server.journal import Journal
from heavylift_runtime.server.refused import Refused


class Hall:
    """All models that are loaded, or being loaded. A model whose copies die beyond restart leaves by itself."""

    def __init__(self, environ: Mapping[str, str], scratch: Path, journal: Journal) -> None:
        self._environ = environ
        self._scratch = scratch
        self._journal = journal
        self._models: dict[str, Hosted] = {}
        self._loading: set[str] = set()
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._births = 0

    def listed(self) -> list[Hosted]:
        """By name."""
        return [self._models[name] for name in sorted(self._models)]

    def find(self, name: str) -> Hosted:
        """One of them; raises Refused (404)."""
        hosted = self._models.get(name)
        if hosted is None:
            raise Refused(404, f"no model {name[:80]!r} is loaded: POST /models loads one")
        return hosted

    async def load(self, name: str, url: str) -> None:
        """Load one, and return once it is ready; raises Refused (400, 404, 409, 424, 507)."""
        if name in self._models or name in self._loading:
            raise Refused(409, f"model {name[:80]!r} is loaded already")
        folder = _root(url)
        self._loading.add(name)
        loading = asyncio.create_task(self._load(name, folder))
        loading.add_done_callback(lambda task: self._loading.discard(name))
        await asyncio.shield(loading)  # a client that goes away does not leave half a model

    async def unload(self, name: str) -> None:
        """Unload one; raises Refused (404)."""
        hosted = self.find(name)
        del self._models[name]
        self._watchers.pop(name).cancel()
        await hosted.end()
        self._journal.write("unloaded", model=name)

    async def end(self) -> None:
        """Unload all."""
        await asyncio.gather(*(self.unload(name) for name in list(self._models)))

    async def _load(self, name: str, folder: Path) -> None:
        try:
            options = Options.load(folder, self._environ)
            _check_memory(name, folder, options)
        except OptionsError as error:
            raise Refused(400, str(error)) from error
        except OSError as error:
            raise Refused(400, f"model {name[:80]!r} cannot be read: {error}") from error
        self._births += 1
        scratch = self._scratch / f"model-{self._births}"
        scratch.mkdir(mode=0o700)

        def report(copy: int, stage: str) -> None:
            self._journal.write("stage", model=name, copy=copy, stage=stage)

        try:
            hosted = Hosted.begin(name, folder, options, scratch, report)
        except OptionsError as error:
            raise Refused(400, str(error)) from error
        supervisor = hosted.supervisor
        either = [asyncio.create_task(supervisor.started.wait()), asyncio.create_task(supervisor.failed.wait())]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in either:
                task.cancel()
        if supervisor.failure is not None:
            await hosted.end()
            code = 507 if isinstance(supervisor.failure, MemoryFault) else 424
            raise Refused(code, f"model {name!r} cannot be loaded: {supervisor.failure}")
        self._models[name] = hosted
        self._watchers[name] = asyncio.create_task(self._watch(hosted))
        self._journal.write("loaded", model=name, url=hosted.url, options=options.describe())

    async def _watch(self, hosted: Hosted) -> None:
        await hosted.supervisor.failed.wait()
        self._journal.write("lost", model=hosted.name, error=str(hosted.supervisor.failure))
        self._models.pop(hosted.name, None)
        self._watchers.pop(hosted.name, None)
        await hosted.end()


def _root(url: str) -> Path:
    """The model's folder: the one that is named, or the only one in it that has a serving.properties."""
    folder, why = Path(url), ""
    try:
        if folder.is_absolute() and folder.is_dir():
            return model_folder(folder)
    except OSError as error:  # a name that is too long, a folder that may not be read
        why = f" ({error.strerror})"
    raise Refused(404, f"'url' must be a folder of this container, as /opt/ml/models/…/model: got {url[:200]!r}{why}")


def _check_memory(name: str, folder: Path, options: Options) -> None:
    """Refused (507) before anything is started, where the weights cannot fit beside what runs."""
    given = options.required_memory_mb
    needed = weight_bytes(folder, options) if given is None else given * MEGABYTE
    free = free_bytes() - options.reserved_memory_mb * MEGABYTE
    if needed > free:
        raise Refused(
            507,
            f"model {name!r} needs {needed // MEGABYTE} MB and {max(free, 0) // MEGABYTE} MB are free beside "
            f"reserved_memory_mb={options.reserved_memory_mb}: unload another one",
        )
