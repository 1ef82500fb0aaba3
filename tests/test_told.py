"""What a deployment tells at its end: each way to call the endpoint works as it is printed."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from heavylift.deploy.told import calls


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account with long-lived keys: no session token."""
    for name in ("AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")


def blocks(text: str) -> tuple[str, str, str]:
    """The shell's line, the Python script, curl."""
    _, shell, python, curl = text.split("\n\n")
    return shell, python, curl


def test_the_python_lines_are_a_script_and_say_the_same_as_curl(account: None, tmp_path: Path) -> None:
    shell, python, curl = blocks(calls("tiny-t5", tmp_path / "a b.yaml", "four-tasks", local=False))

    called = next(node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.keyword) and node.arg == "Body")
    assert isinstance(called.value, ast.Constant)
    words = shlex.split(curl.replace("\\\n", " "))
    assert called.value.value == words[words.index("-d") + 1]
    assert json.loads(called.value.value)["inputs"] == [shlex.split(shell)[-1]]
    assert shlex.split(shell)[2].endswith("a b.yaml")
    assert words[-1] == "https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/tiny-t5/invocations"


def test_curl_sends_no_empty_session_token(account: None, tmp_path: Path) -> None:
    heard: list[dict[str, str]] = []

    class Hears(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    _, _, curl = blocks(calls("tiny-t5", tmp_path / "x.yaml", None, local=False))
    with HTTPServer(("127.0.0.1", 0), Hears) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        line = curl.replace("https://runtime.sagemaker.eu-west-1.amazonaws.com", address)
        for environment in ("", "AWS_SESSION_TOKEN=abc; "):
            subprocess.run(["sh", "-c", environment + line], check=True, capture_output=True)
        server.shutdown()

    without, with_token = heard
    assert "x-amz-security-token" not in without and "security-token" not in without["authorization"]
    assert with_token["x-amz-security-token"] == "abc" and "x-amz-security-token" in with_token["authorization"]
    assert "/eu-west-1/sagemaker/" in without["authorization"]


def test_the_command_is_named_by_its_path_where_path_does_not_lead_to_it(
    account: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    shell, _, _ = blocks(calls("tiny-t5", tmp_path / "x.yaml", None, local=False))

    named = Path(shlex.split(shell)[0])

    assert named.resolve() == Path(sys.executable).with_name("heavylift").resolve()
