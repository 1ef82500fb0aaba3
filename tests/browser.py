"""A real browser for tests: headless Chromium, driven by the DevTools protocol over a pipe.

Not a web driver: it opens a file, emulates a screen, and evaluates expressions. No port is opened.
Protocol: https://chromedevtools.github.io/devtools-protocol/ (`--remote-debugging-pipe`: JSON, each ended by a NUL).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# The browser reads commands from descriptor 3 and writes replies to descriptor 4.
LAUNCH = """
import fcntl, os, sys
commands, replies = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 5) for end in sys.argv[1:3])  # neither is 3 or 4 already
os.dup2(commands, 3), os.dup2(replies, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. `problems` has what the page wrote to the console, and each URL it asked for beyond itself."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands, self._replies, self._number, self._rest = commands, replies, 0, b""
        self.problems: list[str] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def show(self, file: Path, *, width: int, dark: bool = False) -> None:
        """Load a file offline, on a screen `width` CSS pixels wide; returns when it has loaded."""
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=file.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, file: Path) -> None:
        """A PNG of the whole page, for a person to look at."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            got = os.read(self._replies, 65536)
            assert got, "the browser ended"
            self._rest += got
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        match message.get("method"), message.get("params", {}):
            case "Network.requestWillBeSent", {"request": {"url": url}, "type": kind} if kind != "Document":
                self.problems.append(f"asked for {url}")
            case "Log.entryAdded", {"entry": entry}:
                self.problems.append(entry["text"])
            case "Runtime.exceptionThrown", thrown:
                self.problems.append(str(thrown))
        return message


@contextmanager
def browser() -> Iterator[Page]:
    """Chromium with a profile of its own, ended at the exit."""
    assert CHROMIUM is not None, "needs Chromium (Debian: apt install chromium)"
    (to_read, commands), (replies, to_write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        options += ["--disable-background-networking", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(to_read), str(to_write), CHROMIUM, *options],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        os.close(to_read), os.close(to_write)
        try:
            page = Page(commands, replies)
            yield page
            page._session = None
            page.call("Browser.close")
            process.wait(timeout=20)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(commands), os.close(replies)
