"""A scripted HTTP server on loopback: a runtime's /invocations, SageMaker's InvokeEndpoint, a ResponseURL.

Not a model: it looks its answers up, and fails when its script says so.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from heavylift.benchmark.workload import Workload


@dataclass(frozen=True)
class Reply:
    """What the server says: a status, a body, further headers; `drop` closes the connection instead, or after `parts`.

    `parts` are sent one by one as a chunked body, each after so many seconds. `close_after`: the connection is closed
    after the reply, which does not say so.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    parts: tuple[tuple[float, bytes], ...] = ()
    close_after: bool = False


def right_answers(request: dict[str, Any], *, details: bool = True) -> Reply:
    """Exact answers of the four-tasks workload, as the runtime says them; each counts 3 and 4 tokens."""
    answers = {example.input: example.answer for example in Workload.load("four-tasks").examples}
    outputs = [answers[text] for text in request["inputs"]]
    counted = {"finish_reason": "eos_token", "prompt_tokens": 3, "generated_tokens": 4}
    document = {"outputs": outputs} | ({"details": [counted] * len(outputs)} if details else {})
    return Reply(200, json.dumps(document).encode())


def model_error(status: int, message: str) -> Reply:
    """SageMaker's ModelError around a container's reply of `status`."""
    body = json.dumps({"Message": "the container failed", "OriginalStatusCode": status, "OriginalMessage": message})
    return Reply(424, body.encode(), {"x-amzn-errortype": "ModelError"})


@dataclass
class FakeEndpoint:
    """A running server: where it is, and what it heard (method, path, headers, body)."""

    url: str
    heard: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)  # a connection was closed after its reply


@contextmanager
def fake_endpoint(script: Callable[[int, bytes], Reply]) -> Iterator[FakeEndpoint]:
    """Serve `script(number of the request, body)` on a free port of loopback until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes; else the second waits for an ACK, 40 ms

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                number = len(endpoint.heard)
                endpoint.heard.append((self.command, self.path, dict(self.headers), body))
                endpoint.connections.add(self.client_address)
            reply = script(number, body)
            if reply.drop and not reply.parts:
                self.close_connection = True
                return
            if reply.parts:
                self.stream(reply)
                return
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.close_after:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                endpoint.closed.set()

        def stream(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in {"Transfer-Encoding": "chunked", **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for seconds, part in reply.parts:
                time.sleep(seconds)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            if reply.drop:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_PUT = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint = FakeEndpoint(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
