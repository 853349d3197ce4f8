"""A JupyterLab of a test's own, on a local port, with a browser whose name resolution is off."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browsing import OPTIONS as PAGE_OPTIONS
from tests.browsing import PATIENCE, act, errors_of

ROOT = Path(__file__).parents[2]
OPTIONS = (
    *(option for option in PAGE_OPTIONS if not option.startswith(("--host-resolver", "--window"))),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1400,1300",
)
_STATUS = "document.querySelector('#jp-main-statusbar')"
_PROMPT = "document.querySelector('.jp-InputPrompt').textContent.trim()"


@dataclass
class Lab:
    """A running server, and the page that is looked at."""

    url: str
    token: str
    folder: Path
    browser: Any

    def open(self, source: str, *, name: str = "explore.ipynb") -> None:
        """Write a notebook of one cell and open it."""
        cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": source}
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        page = {
            "cells": [{**cell, "execution_count": None}],
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.folder / name).write_text(json.dumps(page), encoding="utf-8")
        self.browser.get(f"{self.url}/lab/tree/{name}?token={self.token}&reset")
        self.until("return document.querySelector('.jp-Notebook .cm-content') !== null")

    def run(self) -> None:
        """Run the cell, once the kernel is there."""
        self.until(f"return {_STATUS}?.innerText.includes('| Idle')")
        self.act(self._press_run, f"return {_PROMPT} !== '[ ]:'")

    def _press_run(self) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        cell = self.browser.find_element("css selector", ".jp-Notebook .cm-content")
        keys = ActionChains(self.browser).move_to_element(cell).click()
        keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until a script returns something true; returns it."""
        return self.act(lambda: None, script, *arguments)

    def act(self, action: Callable[[], Any], script: str, *arguments: Any) -> Any:
        """Do something until a script returns something true; returns that."""
        return act(self.browser, action, script, *arguments)

    def console(self) -> list[str]:
        """What the console called an error since the last time."""
        return errors_of(self.browser)

    def hosts(self) -> set[str]:
        """The hosts of all requests that the page made."""
        found = set()
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if url.startswith(("http:", "https:", "ws:", "wss:")):
                    found.add(url.split("/")[2])
        return found


@contextlib.contextmanager
def started(folder: Path, *, theme: str = "JupyterLab Light") -> Iterator[Lab]:
    """A server and a browser; both end with the context."""
    for plugin, chosen in (
        ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}),
        ("apputils-extension/themes", {"theme": theme}),
        ("notebook-extension/tracker", {"autoStartDefaultKernel": True}),
    ):
        path = folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(chosen))
    work = folder / "work"
    work.mkdir()
    port, token = _free_port(), secrets.token_hex(16)
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={work}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(f"{url}/api/status?token={token}", server, folder / "lab.log")
            with _browser(folder / "profile") as browser:
                yield Lab(url, token, work, browser)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@contextlib.contextmanager
def _browser(profile: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.set_page_load_timeout(PATIENCE)
    browser.set_script_timeout(PATIENCE)
    try:
        yield browser
    finally:
        browser.quit()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")
