"""Adapters as inference components: an archive, unpacked, that every copy of the base component is told of.

Not processes: the base's containers serve them. A container is told by POST, PUT and DELETE below /adapters, and a
request for an adapter has its name in a header (aws/model-hosting-container-standards, LoRA routes).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .archive import ArchiveFault, unpack
from .clients import client
from .container import Container
from .endpoints import Endpoint, Endpoints
from .errors import EndpointFailed
from .forward import PREFIX
from .settings import Settings

log = logging.getLogger("heavylift.adapters")

HEADER = f"{PREFIX}adapter-identifier"


def base_of(component: Endpoint) -> str | None:
    """The component that serves an adapter; None of a component with copies of its own."""
    found: str | None = component.asked.given["Specification"].get("BaseInferenceComponentName")
    return found


class Adapters:
    """Their folders, by their components' names; `components` are all there are. Safe from any thread."""

    def __init__(self, settings: Settings, components: Endpoints) -> None:
        self._s3 = client(settings, "s3", connections=4)
        self._home, self._components = settings.home / "components", components
        self._numbers = itertools.count(1)
        self._folders: dict[str, Path] = {}

    def of(self, base: str) -> Iterator[str]:
        """The names of a component's."""
        for each in self._components.all():
            if base_of(each) == base:
                yield each.name

    def bring(self, name: str, base: str, url: str) -> None:
        """Unpack an adapter and tell the base's copies of it; EndpointFailed, where it cannot be."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        folder = self._home / name / f"{next(self._numbers):04d}" / "adapter"
        try:
            unpack(self._s3, bucket, key, folder)
        except ArchiveFault as fault:
            raise EndpointFailed(str(fault)) from None
        before = self._folders.get(name)
        self._folders[name] = folder
        try:
            for container in self._containers(base):
                self._tell(container, name, folder)
        except EndpointFailed:
            self._folders.pop(name)
            if before is not None:  # every copy goes back to it
                self._folders[name] = before
                for container in self._containers(base):
                    self._tell(container, name, before)
            raise

    def dress(self, base: str, container: Container) -> None:
        """Tell a new copy of the base of all its adapters, before it serves; EndpointFailed."""
        for name in self.of(base):
            if name in self._folders:
                self._tell(container, name, self._folders[name])

    def forget(self, name: str, base: str) -> None:
        """Let the base's copies forget it."""
        self._folders.pop(name, None)
        for container in self._containers(base):
            status, text = container.ask("DELETE", f"/adapters/{quote(name)}")
            if status not in (200, 404):
                log.warning("adapter %s was not forgotten: %s %s", name, status, text)

    def _containers(self, base: str) -> list[Container]:
        found = self._components.find(base)
        served = () if found is None else found.served.values()
        return [each.container for each in served if each.container is not None]

    def _tell(self, container: Container, name: str, folder: Path) -> None:
        status, text = container.ask("POST", "/adapters", {"name": name, "src": str(folder)})
        if status == 409:  # an older archive of it
            status, text = container.ask("PUT", f"/adapters/{quote(name)}", {"src": str(folder)})
        if status != 200:
            raise EndpointFailed(f"the container did not take adapter {name} ({status}): {text}; log '{container.log}'")
