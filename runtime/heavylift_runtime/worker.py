"""One rank process: load the engine, then answer what the server sends on the channel. Not HTTP, not batching.

Every rank reads its channel in a thread, so that it notices at any moment that the server is gone, and then ends its
whole process group: no rank outlives the server, even after `kill -9`. Rank 0 gets the work; the others follow it.

    to the rank     start {options, folder, scratch, rank, world, rendezvous}
                    batch {rows} (text engines) · call {properties} + body (scripts) · stop
    from the rank   stage {stage} · ready · failed {error}
                    replies {replies} (text engines) · answer {code, headers} + body (scripts) · error {code, error}
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.errors import PromptError, RuntimeFault
from heavylift_runtime.options import Options
from heavylift_runtime.wire import Channel, Message

Answer = Callable[[Message], Message]


class OutOfStep(Exception):
    """The engine failed in the middle of a computation that its ranks share: this copy cannot go on."""


def run(descriptor: int) -> int:
    """Be one rank on an inherited socket until the server says stop; the process's exit code."""
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        start = channel.receive().header
    except EOFError:
        return 0  # the server was stopped before it said anything
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox, start["scratch"]), name="channel", daemon=True).start()
    try:
        return _serve(start, channel, inbox)
    except Exception as error:  # the last line of defence of this process: the server gets a sentence
        if not isinstance(error, RuntimeFault):
            traceback.print_exc()
        channel.send({"type": "failed", "error": _sentence(error)})
        return 1


def _serve(start: dict[str, Any], channel: Channel, inbox: queue.SimpleQueue[Message]) -> int:
    options, folder, rank = Options.from_json(start["options"]), Path(start["folder"]), int(start["rank"])

    def report(stage: str) -> None:
        channel.send({"type": "stage", "stage": stage})

    if options.engine == "script":
        from heavylift_runtime.engines import script  # imports the user's code's world

        return _answer(script.load(options, folder, Path(start["scratch"]), report).answer, channel, inbox)
    from heavylift_runtime.engines import native  # torch: only here, and only in a rank

    engine = native.load(options, folder, rank, int(start["world"]), start["rendezvous"], report)
    if rank > 0:
        channel.send({"type": "ready"})
        engine.follow()
        return 0
    code = _answer(_generate(engine, int(start["world"])), channel, inbox)
    engine.close()  # not after a failure: the others may never listen again, and the server ends them
    return code


def _answer(answer: Answer, channel: Channel, inbox: queue.SimpleQueue[Message]) -> int:
    channel.send({"type": "ready"})
    while (message := inbox.get()).type != "stop":
        reply = answer(message)
        channel.send(reply.header, reply.body)
    return 0


def _generate(engine: Engine, world: int) -> Answer:
    def answer(message: Message) -> Message:
        requests = [Request(row["prompt"], Sampling(row["max_new_tokens"])) for row in message.header["rows"]]
        try:
            replies = engine.generate(requests)
        except PromptError as error:
            return Message({"type": "error", "code": 400, "error": str(error)})
        except Exception as error:
            if world > 1:
                raise OutOfStep(f"the engine failed: {_sentence(error)}") from error
            traceback.print_exc()
            return Message({"type": "error", "code": 424, "error": f"the engine failed: {_sentence(error)}"})
        return Message({"type": "replies", "replies": [asdict(reply) for reply in replies]})

    return answer


def _sentence(error: Exception) -> str:
    if isinstance(error, RuntimeFault | OutOfStep):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _listen(channel: Channel, inbox: queue.SimpleQueue[Message], scratch: str) -> None:
    try:
        while True:
            inbox.put(channel.receive())
    except (EOFError, OSError):
        sys.stderr.flush()
        shutil.rmtree(scratch, ignore_errors=True)  # the server, which would have done it, is gone
        os.killpg(0, signal.SIGKILL)  # the rank leads its own group (supervisor.py), with all that a script has started
