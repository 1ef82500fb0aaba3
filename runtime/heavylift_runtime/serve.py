"""The server process: bind the port, start the copies, answer until SIGTERM. No torch: that is the ranks' business.

The port is bound at once, so that /ping can say what the model is loading; SageMaker only counts a 200.
SageMaker sends SIGTERM and, 30 s later, SIGKILL: requests get 22 s of these, the ranks the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn

from heavylift_runtime.errors import AddressError, OptionsError, RuntimeFault
from heavylift_runtime.hosted import Hosted, model_name
from heavylift_runtime.options import Options
from heavylift_runtime.server.app import Door, build
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.journal import Journal
from heavylift_runtime.server.patience import ImpatientProtocol
from heavylift_runtime.server.visit import Visit

DRAIN_SECONDS = 22


def serve_folder(folder: Path, host: str, port: int | None, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT (0); raises OptionsError, AddressError, or RuntimeFault with a rank's sentence."""
    if not folder.is_dir():
        raise OptionsError(f"no folder {str(folder)!r}: give one with serving.properties and weights or a model.py")
    folder = folder.resolve()
    options = Options.load(folder, environ)
    with _bind(host, _port(environ) if port is None else port) as listener:
        scratch = Path(tempfile.mkdtemp(prefix="heavylift-"))  # mode 0700
        try:
            address = f"http://{_show(listener)}"
            print(f"heavylift_runtime: {address} serves {folder}: {options.describe()}", flush=True)
            asyncio.run(_serve(options, folder, scratch, listener))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


async def _serve(options: Options, folder: Path, scratch: Path, listener: socket.socket) -> None:
    journal = Journal()

    def report(copy: int, stage: str) -> None:
        journal.write("stage", copy=copy, stage=stage)

    hosted = Hosted.begin(model_name(folder, options), folder, options, scratch, report)

    def health() -> tuple[bool, dict[str, object]]:
        health = hosted.supervisor.health()
        return health.ready, {
            "status": health.status,
            "elapsed_s": round(health.elapsed_s, 1),
            "waiting": hosted.desk.waiting,
            "running": hosted.running(),
            "timeline": health.timeline,
        }

    def over(visit: Visit) -> None:
        journal.write("request", **visit.to_json(time.monotonic()))

    door = Door(health, lambda scope: hosted, Bodies(), over)
    server = _Server(
        uvicorn.Config(
            build(door),
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    try:
        await _until(server, listener, hosted.supervisor.failed)
    finally:
        await hosted.end()
    if hosted.supervisor.failure is not None:
        raise RuntimeFault(str(hosted.supervisor.failure))


async def _until(server: uvicorn.Server, listener: socket.socket, failed: asyncio.Event) -> None:
    """Serve until a signal, or until the supervisor has given up."""

    async def watch() -> None:
        await failed.wait()
        server.should_exit = True

    watching = asyncio.create_task(watch())
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its way to end, which raises the signal again: SIGTERM is an order here, not an accident."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket; raises AddressError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise AddressError(f"cannot bind {host!r}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise AddressError(f"port {port} of {host} is in use: stop what listens there, or give --port") from error
        raise AddressError(f"cannot listen on port {port} of {host}: {error}") from error
    return listener


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
    if not (text.isascii() and text.isdigit()):
        raise OptionsError(f"SAGEMAKER_BIND_TO_PORT must be a port: got {text!r}")
    return int(text)


def _show(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
