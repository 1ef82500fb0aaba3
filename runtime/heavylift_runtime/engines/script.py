"""The bring-your-own engine: a user's model.py in a process of its own, or in one a rank. Not the contract: handler.py.

With ranks (`engine=MPI`, `option.mpi_mode=true`) every one runs the script and makes each call, and only the answer of
rank 0 is sent (calls.py), as under mpirun in LMI.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift_runtime.engines.content import Call
from heavylift_runtime.engines.devices import DEVICE
from heavylift_runtime.engines.download import fetch
from heavylift_runtime.engines.mpi import join
from heavylift_runtime.engines.requirements import satisfy
from heavylift_runtime.engines.transformers_4 import restore_for
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.wire import Message

if TYPE_CHECKING:
    from heavylift_runtime.engines.handler import Handler

COMPAT = Path(__file__).resolve().parents[2] / "compat"
OWN = "djl_python."
"""What the entry points of handlers that come with the runtime begin with."""


class Script:
    """A loaded script."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def answer(self, message: Message) -> Iterator[Message]:
        """What a `call` message gets: `answer`; or `begin`, chunks and `end`; or `error` (calls.py)."""
        from heavylift_runtime.engines.handler import HandlerFault

        try:
            answers = self._handler.answer(list(_calls(message)))
        except HandlerFault as fault:
            yield Message({"type": "error", "code": fault.code, "error": str(fault)})
            return
        first = answers[0]
        if first.chunks is None:
            heads = [{"code": each.code, "headers": each.headers, "size": len(each.body)} for each in answers]
            yield Message({"type": "answer", "answers": heads}, b"".join(each.body for each in answers))
            return
        yield Message({"type": "begin", "code": first.code, "headers": first.headers})
        try:
            for chunk in first.chunks:
                yield Message({"type": "chunk"}, chunk)
        except HandlerFault as fault:
            yield Message({"type": "end", "error": str(fault), "code": fault.code})
        else:
            yield Message({"type": "end"})


def _calls(message: Message) -> Iterator[Call]:
    at = 0
    for each in message.header["calls"]:
        yield Call(each["properties"], message.body[at : at + each["size"]])
        at += each["size"]


def load(
    options: Options,
    folder: Path,
    scratch: Path,
    report: Callable[[str], None],
    rank: int = 0,
    world: int = 1,
    rendezvous: str = "",
) -> Script:
    """Import the script, fetch its weights and make the empty first call; raises LoadError."""
    if options.mpi_mode:
        join(rank, world, rendezvous, options.model_loading_timeout)
    handler = _imported(options, folder, scratch, report, options.handler, {})
    report("the script's empty first call")
    handler.warm_up()
    return Script(handler)


def partition(
    options: Options,
    folder: Path,
    target: Path,
    scratch: Path,
    report: Callable[[str], None],
    rank: int = 0,
    world: int = 1,
    rendezvous: str = "",
) -> None:
    """Let the script's `partition(inputs)` write to `target`, its property `save_mp_checkpoint_path`, as LMI's job does
    (djl-serving, serving/docker/partition/run_partition.py); on every rank, where it has ranks. Raises LoadError."""
    if options.mpi_mode:
        join(rank, world, rendezvous, options.model_loading_timeout)
    name = options.properties.get("partition_handler", "partition")
    handler = _imported(options, folder, scratch, report, name, {"save_mp_checkpoint_path": str(target)})
    report(f"the script's {name}(inputs)")
    handler.warm_up(f"its {name}(inputs)")


def _imported(
    options: Options,
    folder: Path,
    scratch: Path,
    report: Callable[[str], None],
    function: str,
    more: Mapping[str, str],
) -> Handler:
    entry = _entry(options.entry_point or "model.py", folder)
    packages = satisfy(folder / "requirements.txt", options.install_requirements, scratch, report)
    properties = {**_properties(options, folder), **more}
    if options.model_id is not None and options.model_id.startswith("s3://"):
        properties["model_id"] = str(fetch(options.model_id, scratch, report))
    report(f"importing {entry.name}")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s::%(message)s")  # LMI's; to stderr, as our own lines
    sys.path[:0] = [str(path) for path in (folder, packages, COMPAT) if path is not None]
    os.chdir(folder)  # as in LMI: scripts open files beside them
    restore_for(folder)
    return _handler(entry, function, properties)


def _entry(name: str, folder: Path) -> Path:
    """The script's file: in the folder, or a handler that comes with the runtime; raises LoadError."""
    if name.startswith(OWN):
        entry = COMPAT / f"{name.replace('.', '/').replace('-', '_')}.py"
    else:
        entry = folder / name
        if not entry.resolve().is_relative_to(folder) or entry.suffix != ".py":
            raise LoadError(f"option.entryPoint must be a .py file in the folder: got {name!r}")
    if not entry.is_file():
        raise LoadError(f"there is no {entry.name} in {folder}: add it, or set option.entryPoint to the script's file")
    return entry


def _handler(entry: Path, name: str, properties: dict[str, Any]) -> Handler:
    from djl_python.service_loader import load_model_service  # both are on the path only now
    from heavylift_runtime.engines.handler import Handler, words

    try:
        service = load_model_service(str(entry.parent), entry.name)
    except Exception as error:
        traceback.print_exc()
        raise LoadError(f"{entry.name} cannot be imported: {words(error)}") from error
    try:
        return Handler(service.handler(name), properties)
    except AttributeError as error:
        raise LoadError(str(error)) from error


def _properties(options: Options, folder: Path) -> dict[str, Any]:
    """What LMI tells a handler on each call, beside the request's headers."""
    device = os.environ.get(DEVICE, "-1")
    told: dict[str, Any] = {
        "engine": options.spelling,
        "handler": options.handler,
        "model_dir": str(folder),
        "device_id": os.environ["LOCAL_RANK"] if options.mpi_mode and device != "-1" else device,
    }
    if options.mpi_mode:  # a number, on mpirun's command line; else the text of the option, where there is one
        told["tensor_parallel_degree"] = options.tensor_parallel_degree
    return {**options.properties, **told}
