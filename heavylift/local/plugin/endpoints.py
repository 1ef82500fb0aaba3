"""Endpoints: their status, and the container that serves each; created, replaced blue/green and ended on threads.

Not the API's checks: those are sagemaker.py. An endpoint serves from its own copy of variant and model, so that
deleting an EndpointConfig in use harms nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .container import Container
from .errors import EndpointFailed, invalid
from .model_data import ModelData
from .settings import Settings

log = logging.getLogger("heavylift.endpoints")

IN_PROGRESS = {"Creating", "Updating", "Deleting"}
DOWNLOAD_SECONDS = STARTUP_SECONDS = 3600
"""What is waited for where a variant names no timeout: SageMaker's longest."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a container that ended is started again; doubled each time that it does not come up."""


@dataclass(frozen=True)
class Deployment:
    """What one EndpointConfig asks to be started: its first and only variant, and that variant's container."""

    config: str
    variant: dict[str, Any]
    container: dict[str, Any]


@dataclass
class Endpoint:
    """One endpoint; `serving` is the deployment whose container answers invocations."""

    name: str
    arn: str
    status: str
    asked: Deployment
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    failure: str | None = None
    serving: Deployment | None = None
    container: Container | None = None
    weight: float = 1.0
    instances: int = 1


class Endpoints:
    """Every endpoint by name. Safe from any thread; never holds its lock while it waits for a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data = ModelData(settings)
        self._changed = threading.Condition()
        self._endpoints: dict[str, Endpoint] = {}
        self._containers: set[Container] = set()
        self._ending = threading.Event()

    def get(self, name: str) -> Endpoint:
        """The endpoint; ValidationException where there is none."""
        found = self._endpoints.get(name)
        if found is None:
            raise invalid(f'Could not find endpoint "{self._settings.arn("sagemaker", f"endpoint/{name}")}".')
        return found

    def find(self, name: str) -> Endpoint | None:
        """The endpoint, or None."""
        return self._endpoints.get(name)

    def all(self) -> list[Endpoint]:
        """Every endpoint, in order of creation."""
        return list(self._endpoints.values())

    def create(self, name: str, deployment: Deployment) -> Endpoint:
        """Begin to create an endpoint."""
        with self._changed:
            if name in self._endpoints:
                raise invalid(f'Cannot create already existing endpoint "{self._endpoints[name].arn}".')
            arn = self._settings.arn("sagemaker", f"endpoint/{name}")
            endpoint = Endpoint(name, arn, "Creating", deployment)
            self._endpoints[name] = endpoint
        self._thread(self._bring_up, endpoint)
        return endpoint

    def update(self, name: str, deployment: Deployment) -> Endpoint:
        """Begin to replace the endpoint's container; the old one serves until the new one is healthy."""
        with self._changed:
            endpoint = self._settled(name, "update")
            if endpoint.status == "Failed":
                raise invalid(f'Cannot update failed endpoint "{endpoint.arn}"; delete it.')
            endpoint.status, endpoint.asked, endpoint.failure = "Updating", deployment, None
        self._thread(self._bring_up, endpoint)
        return endpoint

    def delete(self, name: str) -> None:
        """Begin to delete an endpoint."""
        with self._changed:
            endpoint = self._settled(name, "delete")
            endpoint.status = "Deleting"
        self._thread(self._take_down, endpoint)

    def wait(self, name: str) -> Endpoint | None:
        """Block until the endpoint's status is final; None once it is deleted."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._endpoints or self.get(name).status not in IN_PROGRESS)
            return self._endpoints.get(name)

    def end(self) -> None:
        """End every container, those that are coming up too, and wait for it."""
        self._ending.set()
        with self._changed:
            containers = list(self._containers)
        threads = [threading.Thread(target=container.stop) for container in containers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _settled(self, name: str, what: str) -> Endpoint:
        endpoint = self.get(name)
        if endpoint.status in IN_PROGRESS:
            raise invalid(f'Cannot {what} in-progress endpoint "{endpoint.arn}" ({endpoint.status}).')
        return endpoint

    def _thread(self, work: Callable[[Endpoint], None], endpoint: Endpoint) -> None:
        threading.Thread(target=work, args=(endpoint,), name=f"endpoint-{endpoint.name}", daemon=True).start()

    def _bring_up(self, endpoint: Endpoint) -> None:
        """Start `endpoint.asked`; swap it in when healthy, else keep what serves and say why."""
        deployment = endpoint.asked
        try:
            container = self._start(endpoint.name, deployment)
        except EndpointFailed as failure:
            self._fail(endpoint, str(failure))
            return
        except Exception as error:
            log.exception("endpoint %s", endpoint.name)
            self._fail(endpoint, f"{type(error).__name__}: {error}")
            return
        with self._changed:
            old = self._serve_from(endpoint, container)
            endpoint.serving, endpoint.failure = deployment, None
            endpoint.weight = deployment.variant.get("InitialVariantWeight", 1.0)
            endpoint.instances = deployment.variant.get("InitialInstanceCount", 1)
            self._mark(endpoint, "InService")
        if old is not None:
            self._stop(old)

    def _start(self, name: str, deployment: Deployment) -> Container:
        """A healthy container of the deployment; EndpointFailed, and nothing left running, where it is not."""
        variant = deployment.variant
        container = Container(self._settings, name)
        with self._changed:
            self._containers.add(container)
        try:
            seconds = variant.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS)
            self._data.fetch(deployment.container, container.model, seconds, self._ending.is_set)
            if self._ending.is_set():
                raise EndpointFailed("the embedded AWS is ending")
            container.start(deployment.container.get("Environment", {}))
            seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
            container.wait_healthy(seconds, self._ending.is_set)
        except BaseException:
            self._stop(container)
            raise
        return container

    def _serve_from(self, endpoint: Endpoint, container: Container) -> Container | None:
        """Let a healthy container answer, and watch it; gives the one that answered before."""
        old, endpoint.container = endpoint.container, container
        threading.Thread(target=self._replace_dead, args=(endpoint, container), daemon=True).start()
        return old

    def _replace_dead(self, endpoint: Endpoint, container: Container) -> None:
        """Start the container anew whenever it ends by itself, as SageMaker does; the endpoint stays InService."""
        container.wait_ended()
        pause = FIRST_PAUSE
        while not self._ending.wait(pause) and self._answers_from(endpoint, container):
            serving = endpoint.serving
            assert serving is not None, "it has a container"
            log.warning("endpoint %s: its container ended, starting it again; log %s", endpoint.name, container.log)
            try:
                new = self._start(endpoint.name, serving)
            except Exception as error:
                log.warning("endpoint %s: it did not come up: %s", endpoint.name, error)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            with self._changed:
                wanted = self._answers_from(endpoint, container) and endpoint.serving is serving
                if wanted:
                    self._serve_from(endpoint, new)
            self._stop(container if wanted else new)
            return

    def _answers_from(self, endpoint: Endpoint, container: Container) -> bool:
        """Whether nobody has deleted, or is deleting, the endpoint, nor given it another container."""
        there = self._endpoints.get(endpoint.name) is endpoint
        return there and endpoint.container is container and endpoint.status != "Deleting"

    def _fail(self, endpoint: Endpoint, reason: str) -> None:
        log.warning("endpoint %s failed: %s", endpoint.name, reason)
        with self._changed:
            endpoint.failure = reason[:1024]
            self._mark(endpoint, "Failed" if endpoint.serving is None else "InService")

    def _take_down(self, endpoint: Endpoint) -> None:
        if endpoint.container is not None:
            self._stop(endpoint.container)
        with self._changed:
            del self._endpoints[endpoint.name]
            self._changed.notify_all()

    def _stop(self, container: Container) -> None:
        container.stop()
        with self._changed:
            self._containers.discard(container)

    def _mark(self, endpoint: Endpoint, status: str) -> None:
        endpoint.status, endpoint.modified = status, time.time()
        self._changed.notify_all()
