"""A headless Chromium driven over its debugging pipe: open a page, run scripts in it, watch what it does."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip


class Page:
    """One page. `errors` collects uncaught exceptions and console errors, `requests` the addresses it asked for."""

    def __init__(self, read: int, write: int):
        self.read, self.write = read, write
        self.buffer = b""
        self.count = 0
        self.session = ""
        self.errors: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            chunk = os.read(self.read, 1 << 20)
            assert chunk, "the browser went away"
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.errors.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case _:
                pass

    def open(self, file: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def wait(self, condition: str) -> None:
        """Wait until a condition holds in the page."""
        deadline = time.monotonic() + 60
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never: {condition}"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Run a script in the page and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Give the window a size in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """Prefer light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, file: Path) -> None:
        """Save what is seen."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


def hides_and_shows(page: Page, trails: str) -> None:
    """Check that the first button of an animation's legend takes an optimizer's trails away, and brings them back."""
    button, before = "document.querySelector('#legend button')", page.run(trails)
    page.run(f"{button}.click()")
    assert page.run(f"{button}.getAttribute('aria-pressed')") == "false"
    page.wait(f"{trails} < {before}")
    page.run(f"{button}.click()")
    page.wait(f"{trails} === {before}")


def fits_a_phone_and_the_dark(page: Page) -> None:
    """Check that a page needs no scrolling sideways on a phone, and is dark for who prefers that."""
    page.size(390, 800)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.scheme("dark")
    page.wait("getComputedStyle(document.body).backgroundColor === 'rgb(17, 22, 28)'")


@contextmanager
def opened(file: Path, profile: Path) -> Generator[Page]:
    """A page on the desktop in light colours, that must end without an error or a request."""
    with browser(profile) as page:
        page.size(1280, 900)
        page.scheme("light")
        page.open(file)
        yield page
        assert page.errors == []
        assert all(address.startswith(("file:", "data:", "blob:")) for address in page.requests)


@contextmanager
def browser(profile: Path) -> Generator[Page]:
    """Start Chromium with a profile folder and attach to one empty page."""
    assert CHROMIUM is not None
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()

    def arrange() -> None:  # Chromium reads file descriptor 3 and writes 4
        os.dup2(to_browser, 8)
        os.dup2(from_browser, 9)
        os.dup2(8, 3)
        os.dup2(9, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=arrange,
        pass_fds=(3, 4),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    page = Page(ours_in, ours_out)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)
