"""Through which client a benchmark's requests go to a place: as its endpoint takes them. Not the clients themselves."""

from __future__ import annotations

from heavylift.benchmark.asynchronous import AsynchronousClient
from heavylift.benchmark.client import Client, SageMakerClient
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import GateClosed, Place, described


def sender(benchmark: Benchmark, place: Place) -> Client:
    """Raises GateClosed where the benchmark is asynchronous and the endpoint is not, or one variant is to be asked."""
    concurrency = benchmark.load.concurrency
    if benchmark.asynchronous:
        if place.variant is not None:
            raise GateClosed(f"{place} is asked through S3, as its traffic is divided; leave out the variant")
        return AsynchronousClient(place.endpoint, results=results_of(place.endpoint), concurrency=concurrency)
    return SageMakerClient(place.endpoint, concurrency=concurrency, variant=place.variant, **benchmark.aim)


def results_of(endpoint: str) -> str:
    """Where an asynchronous endpoint puts its replies: S3OutputPath. Raises GateClosed."""
    found = described(endpoint)
    if found is None:
        raise GateClosed(f"there is no endpoint {endpoint}; nothing was sent")
    where = found.get("AsyncInferenceConfig", {}).get("OutputConfig", {}).get("S3OutputPath")
    if where is None:
        raise GateClosed(f"the endpoint {endpoint} is not asynchronous; the benchmark is: nothing was sent")
    return str(where)
