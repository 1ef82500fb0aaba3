"""Endpoints: their status, and the containers that serve each; created, replaced blue/green and ended on threads.

Inference components live as endpoints do, their copies as variants. Not the API's checks: sagemaker.py, components.py.
An endpoint serves from its own copies of variants and models, so that deleting an EndpointConfig in use harms nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from .container import Container
from .deployment import Deployment, Served, Variant
from .errors import EndpointFailed, invalid
from .model_data import ModelData
from .settings import Settings

log = logging.getLogger("heavylift.endpoints")

IN_PROGRESS = {"Creating", "Updating", "Deleting"}
DOWNLOAD_SECONDS = STARTUP_SECONDS = 3600
"""What is waited for where a variant names no timeout: SageMaker's longest."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a container that ended is started again; doubled each time that it does not come up."""


@dataclass
class Endpoint:
    """One endpoint; `serving` is the deployment whose containers answer, `served` they, by their variants' names."""

    name: str
    arn: str
    status: str
    asked: Deployment
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    failure: str | None = None
    serving: Deployment | None = None
    served: dict[str, Served] = field(default_factory=dict)


class Endpoints:
    """Every endpoint, or `resource`, by name. Safe from any thread; never holds its lock while it waits for a process.

    `under` is the folder of their logs.
    """

    def __init__(self, settings: Settings, resource: str = "endpoint", *, under: str = "endpoints") -> None:
        self._settings, self._resource, self._under = settings, resource, under
        self._data = ModelData(settings)
        self._changed = threading.Condition()
        self._endpoints: dict[str, Endpoint] = {}
        self._containers: set[Container] = set()
        self._ending = threading.Event()
        self.dress: Callable[[str, Container], None] = lambda name, container: None
        """What a healthy container of an endpoint still gets before it serves; EndpointFailed."""

    def get(self, name: str) -> Endpoint:
        """The endpoint; ValidationException where there is none."""
        found = self._endpoints.get(name)
        if found is None:
            raise invalid(f'Could not find {self._resource} "{self._arn(name)}".')
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
                raise invalid(f'Cannot create already existing {self._resource} "{self._endpoints[name].arn}".')
            endpoint = Endpoint(name, self._arn(name), "Creating", deployment)
            self._endpoints[name] = endpoint
        self._thread(self._bring_up, endpoint)
        return endpoint

    def update(
        self, name: str, deployment: Deployment, retained: frozenset[str] = frozenset(), *, keep: bool = False
    ) -> Endpoint:
        """Begin to replace the endpoint's containers; the old ones serve until all new ones are healthy.

        `retained` properties (DesiredWeight, DesiredInstanceCount) of variants that stay are taken over; with `keep`,
        the containers of variants that are asked for as they are go on.
        """
        with self._changed:
            endpoint = self._settled(name, "update")
            if endpoint.status == "Failed":
                raise invalid(f'Cannot update failed {self._resource} "{endpoint.arn}"; delete it.')
            endpoint.status, endpoint.asked, endpoint.failure = "Updating", deployment, None
        self._thread(partial(self._bring_up, retained=retained, keep=keep), endpoint)
        return endpoint

    def share(self, name: str, wanted: dict[str, tuple[float | None, int | None]]) -> Endpoint:
        """Give variants another weight and count, each where it is not None; all of them or, on a fault, none."""
        with self._changed:
            endpoint = self._settled(name, "update")
            unknown = [variant for variant in wanted if variant not in endpoint.served]
            if unknown:
                raise invalid(f"endpoint {name} serves no variant {', '.join(map(repr, unknown))}")
            for variant, (weight, instances) in wanted.items():
                served = endpoint.served[variant]
                served.weight = served.weight if weight is None else weight
                served.instances = served.instances if instances is None else instances
            for served in endpoint.served.values():
                served.answered = 0
            self._mark(endpoint, endpoint.status)
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
            raise invalid(f'Cannot {what} in-progress {self._resource} "{endpoint.arn}" ({endpoint.status}).')
        return endpoint

    def _arn(self, name: str) -> str:
        return self._settings.arn("sagemaker", f"{self._resource}/{name}")

    def _thread(self, work: Callable[[Endpoint], None], endpoint: Endpoint) -> None:
        threading.Thread(target=work, args=(endpoint,), name=f"endpoint-{endpoint.name}", daemon=True).start()

    def _bring_up(self, endpoint: Endpoint, retained: frozenset[str] = frozenset(), keep: bool = False) -> None:
        """Start `endpoint.asked`; swap it in when all its variants are healthy, else keep what serves and say why."""
        deployment, old = endpoint.asked, endpoint.served
        stay = {name: served for name, served in old.items() if keep and served.variant in deployment.variants}
        try:
            deployment.prepare()
            started = self._start_all(
                endpoint.name,
                [each for each in deployment.variants if each.container is not None and each.name not in stay],
            )
        except EndpointFailed as failure:
            self._fail(endpoint, str(failure))
            return
        except Exception as error:
            log.exception("%s", endpoint.arn)
            self._fail(endpoint, f"{type(error).__name__}: {error}")
            return
        with self._changed:
            endpoint.served = {
                variant.name: stay.get(variant.name)
                or Served.begin(variant, started.get(variant.name), old.get(variant.name), retained)
                for variant in deployment.variants
            }
            for served in stay.values():
                served.answered = 0  # or a new one would have all turns until it has answered as often
            for name in started:
                self._watch(endpoint, endpoint.served[name])
            endpoint.serving, endpoint.failure = deployment, None
            self._mark(endpoint, "InService")
        for name, served in old.items():
            if name not in stay:
                self._stop(served.container)

    def _start_all(self, name: str, variants: Sequence[Variant]) -> dict[str, Container]:
        """A healthy container for each variant, by its name; the first failure ends the others."""
        failures: list[Exception] = []

        def start(variant: Variant) -> Container | None:
            try:
                return self._start(name, variant, lambda: bool(failures))
            except Exception as error:
                failures.append(error)
                return None

        with ThreadPoolExecutor(max(1, len(variants))) as pool:
            made = zip(variants, pool.map(start, variants), strict=True)
            started = {variant.name: container for variant, container in made if container is not None}
        if failures:
            for container in started.values():
                self._stop(container)
            raise failures[0]
        return started

    def _start(self, name: str, variant: Variant, given_up: Callable[[], bool] = lambda: False) -> Container:
        """A healthy container of the variant; EndpointFailed, and nothing left running, where it is not."""
        assert variant.container is not None, "instances without a model start nothing"
        with self._changed:
            container = Container(self._settings, name, under=self._under)
            self._containers.add(container)

        def cancelled() -> bool:
            return self._ending.is_set() or given_up()

        try:
            seconds = variant.given.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS)
            self._data.fetch(variant.container, container.folder, seconds, cancelled)
            if cancelled():
                raise EndpointFailed("the embedded AWS is ending")
            container.models = self._data.models(variant.container, container)
            container.start(variant.container.get("Environment", {}))
            seconds = variant.given.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
            container.wait_healthy(seconds, cancelled)
            self.dress(name, container)
        except BaseException:
            self._stop(container)
            raise
        return container

    def _watch(self, endpoint: Endpoint, served: Served) -> None:
        """Start the container anew whenever it ends by itself, as SageMaker does; the endpoint stays InService."""
        assert served.container is not None, "it was just started"
        threading.Thread(target=self._replace_dead, args=(endpoint, served, served.container), daemon=True).start()

    def _replace_dead(self, endpoint: Endpoint, served: Served, container: Container) -> None:
        container.wait_ended()
        pause = FIRST_PAUSE
        while not self._ending.wait(pause) and self._answers_from(endpoint, served, container):
            log.warning("%s: its container ended, starting it again; log %s", endpoint.arn, container.log)
            try:
                new = self._start(endpoint.name, served.variant)
            except Exception as error:
                log.warning("%s: it did not come up: %s", endpoint.arn, error)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            with self._changed:
                wanted = self._answers_from(endpoint, served, container)
                if wanted:
                    served.container = new
                    self._watch(endpoint, served)
            self._stop(container if wanted else new)
            return

    def _answers_from(self, endpoint: Endpoint, served: Served, container: Container) -> bool:
        """Whether nobody has deleted, or is deleting, the endpoint, nor given the variant another container."""
        there = self._endpoints.get(endpoint.name) is endpoint and endpoint.status != "Deleting"
        return there and endpoint.served.get(served.variant.name) is served and served.container is container

    def _fail(self, endpoint: Endpoint, reason: str) -> None:
        log.warning("%s failed: %s", endpoint.arn, reason)
        with self._changed:
            endpoint.failure = reason[:1024]
            self._mark(endpoint, "Failed" if endpoint.serving is None else "InService")

    def _take_down(self, endpoint: Endpoint) -> None:
        for served in endpoint.served.values():
            self._stop(served.container)
        with self._changed:
            del self._endpoints[endpoint.name]
            self._changed.notify_all()

    def _stop(self, container: Container | None) -> None:
        if container is None:
            return
        container.stop()
        with self._changed:
            self._containers.discard(container)

    def _mark(self, endpoint: Endpoint, status: str) -> None:
        endpoint.status, endpoint.modified = status, time.time()
        self._changed.notify_all()
