"""A model server of the tests' own, for the embedded AWS's endpoints: small, and told by its requests how to misbehave.

Not the runtime. `local_model_server.py MODEL_DIR PORT`; MODEL_NAME names it, EXIT_AT_START ends it, NEVER_HEALTHY too;
with REQUESTS_FILE it writes a letter to ~/requests for each. An adapter is a folder with a file `accent`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL, PORT = Path(sys.argv[1]), int(sys.argv[2])
ADAPTERS: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    """The container contract: GET /ping, POST /invocations."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the log to what the tests look for."""

    def do_GET(self) -> None:
        """Healthy, unless told otherwise."""
        self.answer(503 if "NEVER_HEALTHY" in os.environ else 200, {})

    def do_DELETE(self) -> None:
        """Forget an adapter."""
        known = ADAPTERS.pop(self.path.removeprefix("/adapters/"), None)
        self.answer(404 if known is None else 200, {})

    def do_PUT(self) -> None:
        """Load an adapter anew."""
        self.adapt(
            self.path.removeprefix("/adapters/"), json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        )

    def adapt(self, name: str, asked: dict[str, Any]) -> None:
        """Load what an adapter's folder says."""
        said = Path(asked["src"]) / "accent"
        if not said.is_file():
            self.answer(424, {"error": f"{asked['src']} has no accent"})
            return
        ADAPTERS[name] = said.read_text()
        self.answer(200, {})

    def do_POST(self) -> None:
        """Do what the request asks."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/adapters":
            if asked["name"] in ADAPTERS:
                self.answer(409, {})
            else:
                self.adapt(asked["name"], asked)
            return
        if "REQUESTS_FILE" in os.environ:
            with open(Path.home() / "requests", "a") as file:
                file.write("x")
        if "stream" in asked:
            self.stream(asked)
            return
        if "orphan" in asked:  # a child that leaves our process group, as a rank might
            asked["pid"] = subprocess.Popen(["sleep", "600"], start_new_session=True).pid
        if "sleep" in asked:
            time.sleep(asked["sleep"])
        if "until" in asked:
            wait_for(Path(asked["until"]))
        files = {str(path.relative_to(MODEL)): path.read_text() for path in sorted(MODEL.rglob("*")) if path.is_file()}
        self.answer(
            asked.get("status", 200),
            {
                "model": os.environ.get("MODEL_NAME"),
                "asked": asked,
                "files": files,
                "environ": dict(os.environ),
                "headers": dict(self.headers),
                "pid": os.getpid(),
                "accent": ADAPTERS.get(self.headers.get("x-amzn-sagemaker-adapter-identifier", "")),
            },
        )

    def stream(self, asked: dict[str, Any]) -> None:
        """Send asked["stream"] as chunks, those after the first when the file asked["until"] is there; break the
        connection after asked["break_after"] of them.
        """
        self.send_response(200)
        self.send_header("Content-Type", "application/jsonlines")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, text in enumerate(asked["stream"]):
                if number == asked.get("break_after"):
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                data = text.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                time.sleep(asked.get("pause", 0))
                if number == 0 and "until" in asked:
                    wait_for(Path(asked["until"]))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            (MODEL / "cancelled").write_text(f"after {number}")

    def answer(self, status: int, body: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "trace=1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def wait_for(file: Path) -> None:
    """Until it exists; meanwhile a file beside it says that somebody waits."""
    file.with_suffix(".awaited").touch()
    while not file.exists():
        time.sleep(0.02)


if "EXIT_AT_START" in os.environ:
    print("the weights are truncated", file=sys.stderr)
    sys.exit(3)
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
