"""The server process: bind the port, start the copies, answer until SIGTERM. No torch: that is the ranks' business.

The port is bound at once, so that /ping can say what the model is loading; SageMaker only counts a 200.
SageMaker sends SIGTERM and, 30 s later, SIGKILL: requests get 22 s of these, the ranks the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from heavylift_runtime.errors import AddressError, OptionsError, RuntimeFault
from heavylift_runtime.garbage import settle
from heavylift_runtime.hall import Hall
from heavylift_runtime.hosted import Hosted, model_name
from heavylift_runtime.options import Options, model_folder
from heavylift_runtime.secret_values import secret_values
from heavylift_runtime.server.adapter_routes import adapter_routes
from heavylift_runtime.server.afterwards import Afterwards
from heavylift_runtime.server.app import INVOCATIONS, PATHS, Ask, batches, build
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.journal import Journal
from heavylift_runtime.server.metrics import Metrics
from heavylift_runtime.server.models import Alone, model_routes
from heavylift_runtime.server.patience import ImpatientProtocol

DRAIN_SECONDS = 22
ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""To end in order; the last one is what a terminal says as it closes."""


def serve_folder(folder: Path, host: str, port: int | None, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT (0); raises OptionsError, AddressError, or RuntimeFault with a rank's sentence.

    With SAGEMAKER_MULTI_MODEL=true the folder is not read: models come and go by the API of server/models.py.
    """
    many = environ.get("SAGEMAKER_MULTI_MODEL", "false").lower() == "true"
    if not many and not folder.is_dir():
        raise OptionsError(f"no folder {str(folder)!r}: give one with serving.properties and weights or a model.py")
    folder = model_folder(folder.resolve())
    os.environ.update(secret_values(environ))  # the ranks inherit it
    options = None if many else Options.load(folder, environ)
    for warning in () if options is None else options.warnings:
        print(warning, file=sys.stderr, flush=True)
    with _bind(host, _port(environ) if port is None else port) as listener, _heeding():
        scratch = _scratch()
        try:
            address = f"http://{_show(listener)}"
            if options is None:
                print(f"heavylift_runtime: {address} serves the models that POST /models loads", flush=True)
                _run(_serve_many(environ, scratch, listener))
            else:
                print(f"heavylift_runtime: {address} serves {folder}: {options.describe()}", flush=True)
                _run(_serve_one(options, folder, scratch, listener))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _scratch() -> Path:
    """A new folder of our own, mode 0700; raises OptionsError where none can be made."""
    try:
        return Path(tempfile.mkdtemp(prefix="heavylift-"))
    except OSError as error:
        raise OptionsError(
            f"no folder for temporary files: make /tmp writable, or name one in TMPDIR: {error}"
        ) from error


def _run(serving: Coroutine[Any, Any, None]) -> None:
    settle()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


async def _serve_one(options: Options, folder: Path, scratch: Path, listener: socket.socket) -> None:
    journal = Journal()

    def report(copy: int, stage: str) -> None:
        journal.write("stage", copy=copy, stage=stage)

    hosted = Hosted.begin(model_name(folder, options), folder, options, scratch, report)
    supervisor, told = hosted.supervisor, Afterwards(journal, Metrics(lambda: [hosted]))
    alone = Alone(hosted)

    def asked(scope: Scope) -> Hosted:
        named = scope.get("path_params", {}).get("model")
        return hosted if named is None else alone.find(str(named))

    ask = Ask(asked, Bodies(options.max_request_size), told.over)
    paths = [INVOCATIONS] if options.engine == "script" else PATHS  # a script reads no schema by its path
    routes = [*(Route(path, ask, methods=["POST"]) for path in paths), *adapter_routes(lambda scope: hosted.adapters)]
    routes += [Route("/execution-parameters", batches(options)), *model_routes(alone, ask)]

    def health() -> tuple[bool, dict[str, object]]:
        return supervisor.health().ready, hosted.state

    try:
        await _until(build(health, lambda: hosted.names, told.page, routes), listener, supervisor.failed)
    finally:
        await hosted.end()
        told.tell()
    if supervisor.failure is not None:
        raise RuntimeFault(str(supervisor.failure))


async def _serve_many(environ: Mapping[str, str], scratch: Path, listener: socket.socket) -> None:
    journal = Journal()
    hall = Hall(environ, scratch, journal)
    told = Afterwards(journal, Metrics(hall.listed))

    def asked(scope: Scope) -> Hosted:
        return hall.find(str(scope["path_params"]["model"]))

    ask = Ask(asked, Bodies(), told.over)
    routes = [*adapter_routes(lambda scope: asked(scope).adapters), *model_routes(hall, ask)]

    def health() -> tuple[bool, dict[str, object]]:
        return True, {"status": "ready", "models": {each.name: each.state for each in hall.listed()}}

    try:
        app = build(health, lambda: [name for each in hall.listed() for name in each.names], told.page, routes)
        await _until(app, listener, asyncio.Event())
    finally:
        await hall.end()
        told.tell()


async def _until(app: ASGIApp, listener: socket.socket, failed: asyncio.Event) -> None:
    """Serve until a signal, or until the supervisor has given up."""
    server = _Server(
        uvicorn.Config(
            app,
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
        """To the loop's end: one that is told again, while the ranks end, ends no sooner."""
        loop = asyncio.get_running_loop()
        for number in ORDERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


@contextlib.contextmanager
def _heeding() -> Iterator[None]:
    """Ends in order also while the server is not there yet to be told. What nohup ignores is ignored."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = {number: signal.getsignal(number) for number in ORDERS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
