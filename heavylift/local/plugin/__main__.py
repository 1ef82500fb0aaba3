"""The daemon: MiniStack and the plug-in on one loopback port, until SIGTERM.

Not its start and stop: those are heavylift.local.embedded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence

from . import cfn_bucket, cfn_custom, events, seams
from .asynchronous import AsyncInvocations
from .autoscaling import AutoScaling
from .cfn_autoscaling import AutoScalingTypes
from .cfn_sagemaker import SageMakerTypes
from .components import RESOURCE
from .endpoints import Endpoints
from .front import Front, Service
from .invoke import Invocations
from .processing import Jobs
from .sagemaker import SageMaker
from .settings import Settings


def main(argument: str) -> None:
    """Serve; `argument` is Settings as JSON."""
    settings = Settings.from_json(argument)
    os.environ.pop("PYTHONPATH")  # it led here; a Lambda must not find the plug-in on its path
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    seams.check()
    endpoints, copies = Endpoints(settings), Endpoints(settings, RESOURCE, under="components")
    jobs = Jobs(settings)
    sagemaker = SageMaker(settings, endpoints, copies, jobs)
    autoscaling = AutoScaling(settings, endpoints, copies)
    SageMakerTypes(sagemaker, endpoints, copies).install()
    AutoScalingTypes(autoscaling).install()
    cfn_bucket.install(settings)
    cfn_custom.install()
    events.install()
    services: dict[str, Service] = {"SageMaker": sagemaker, "AnyScaleFrontendService": autoscaling}
    invocations = Invocations(endpoints, copies), AsyncInvocations(settings, endpoints)
    front = Front(services, invocations, seams.application(), settings.token)
    asyncio.run(_serve(front, settings.port, (jobs, copies, endpoints)))
    logging.shutdown()
    os._exit(0)  # threads that wait for a Lambda or a model would hold an ordinary exit


async def _serve(front: Front, port: int, running: Sequence[Jobs | Endpoints]) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each stream is two sockets
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.backlog = 1024
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.ensure_future(serve(front, config, shutdown_trigger=stop.wait))
    await asyncio.wait({serving, asyncio.ensure_future(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    for each in running:
        await asyncio.to_thread(each.end)
    seams.end_lambdas()
    await serving


if __name__ == "__main__":
    main(sys.argv[1])
