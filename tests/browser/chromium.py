"""Headless Chromium, and JupyterLab for it: as much of the DevTools protocol as a walk through notebooks needs."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0")  # fmt: skip
WIDTH, HEIGHT = 1440, 900


class Page:
    """One tab, driven over its socket."""

    def __init__(self, url: str) -> None:
        from websocket import create_connection  # a dependency of JupyterLab

        self.socket, self.count = create_connection(url, suppress_origin=True, timeout=600), 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer; events are passed over."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression comes to, after its promise if it is one."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 120) -> None:
        until(lambda: self.evaluate(f"Boolean({expression})"), expression, seconds)

    def size(self, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A browser with a new profile, and its one tab."""
    flags = [*FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with _started([BROWSER, *flags, "about:blank"], profile.with_suffix(".log")):
        port = profile / "DevToolsActivePort"
        until(lambda: port.is_file() and port.read_text().count("\n"), "the browser", 60)
        with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list") as answer:
            (tab,) = [one for one in json.load(answer) if one["type"] == "page"]
        page = Page(tab["webSocketDebuggerUrl"])
        with closing(page.socket):
            yield page


@contextmanager
def jupyterlab(root: Path, settings: Path) -> Iterator[Callable[[str], str]]:
    """JupyterLab on a folder, with settings of its own; gives the address of a file in it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port, token = free.getsockname()[1], os.urandom(16).hex()
    news = settings / "lab" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # it would ask, over the notebook
    own = {f"JUPYTER_{name}_DIR": str(settings / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(settings / "lab"), "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"),
            "IPYTHONDIR": str(settings / "ipython"), "OMP_NUM_THREADS": "1"}  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--LabApp.expose_app_in_browser=True",
               f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={token}", *(["--allow-root"] if os.geteuid() == 0 else [])]  # fmt: skip

    def answers() -> bool:
        try:
            return urlopen(f"http://127.0.0.1:{port}/api/status?token={token}").status == 200
        except OSError:
            return False

    with _started(command, settings / "server.log", own):
        until(answers, "JupyterLab", 120)
        yield lambda file: f"http://127.0.0.1:{port}/lab/tree/{file}?reset&token={token}"


@contextmanager
def _started(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | (environment or {}))
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def until(done: Callable[[], Any], what: str, seconds: float) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} seconds"
        time.sleep(0.2)
