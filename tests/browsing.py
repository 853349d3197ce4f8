"""A headless Chromium that can reach nothing: pages are opened, looked at, and what they say is read."""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1100,900",
)
PATIENCE = 300
"""Seconds to wait for anything: a busy machine is no fault."""
AGAIN = 10
"""Seconds after which an action that had no effect is done again."""

Scheme = Literal["light", "dark"]


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A session; the test is skipped where Chromium, its driver or selenium is missing."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(PATIENCE)
    try:
        yield session
    finally:
        session.quit()


def look_as(browser: Any, scheme: Scheme, width: int, *, scripts: bool = True) -> None:
    """The next page is opened in a system of this scheme, in a window of this width."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})


def opened(browser: Any, path: Path, ready: str) -> list[str]:
    """Open a page, wait for something it must draw, and return what the console said."""
    browser.get_log("performance")  # of the page before
    browser.get(path.as_uri())
    until(browser, f"return Boolean({ready})")
    return errors_of(browser)


def until(browser: Any, script: str, *arguments: Any) -> Any:
    """Wait until a script returns something true; returns it."""
    return act(browser, lambda: None, script, *arguments)


def act(browser: Any, action: Callable[[], Any], script: str, *arguments: Any) -> Any:
    """Do something until a script returns something true; returns that.

    It is done again where it had no effect: the page may not have been ready for it.
    """
    from selenium.common.exceptions import TimeoutException, WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(TimeoutException):
            with suppress(WebDriverException):  # what it aims at was drawn anew
                action()
            return WebDriverWait(browser, AGAIN).until(
                lambda page: page.execute_script(script, *arguments)
            )
    text = browser.execute_script("return document.body.innerText")
    said = "\n".join([f"not within {PATIENCE} s: {script} {arguments}", "the page:", text])
    raise AssertionError("\n".join([said, "its console:", *errors_of(browser)]))


def errors_of(browser: Any) -> list[str]:
    """What the console called an error since the last time."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def asked_of_others(browser: Any) -> list[str]:
    """What the page asked for that is no file and no data of its own."""
    addresses = [
        address
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
        for address in re.findall(r'"url":"([^"]+)"', entry["message"])
    ]
    return [a for a in addresses if not a.startswith(("file:", "data:", "blob:", "about:"))]


def too_wide(browser: Any) -> int:
    """Pixels by which the page is wider than its window; 0 or less where it fits."""
    width: int = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    return width


def printed(browser: Any) -> bytes:
    """The page as PDF, A4."""
    sheet = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", sheet)["data"])
