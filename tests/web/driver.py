"""`latentface web` in a process of its own, and Chromium as a visitor of it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import latentface

SHOTS = Path(os.environ.get("LATENTFACE_SHOTS", ".screenshots"))  # kept, to be looked at
CHROMIUM = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Server:
    """`latentface web` in a process of its own, with the embedded prior, on a free port."""

    def __init__(self, folder: Path, *options: str, before: str = "") -> None:
        """`before`: is run first in its process."""
        self.folder, self.log = folder / "tmp", folder / "log"
        self.folder.mkdir()
        own = {"TMPDIR": str(self.folder), "LATENTFACE_CACHE": str(folder / "cache"), "LATENTFACE_OFFLINE": "1"}
        own["PYTHONPATH"] = str(Path(latentface.__file__).parents[1])
        # A shell without job control starts its children with Ctrl-C ignored.
        run = "import signal, latentface.cli as c; signal.signal(signal.SIGINT, signal.default_int_handler); c.main()"
        code = f"{before}\n{run}"
        command = [sys.executable, "-c", code, "web", "-p", "celeba128", *options]
        command += [] if "--port" in options else ["--port", str(free_port())]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        """Return its address, once it has started."""
        return until(self._address, 300)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"the page is at (\S+)", self.log.read_text())
        return found and found[1]

    @property
    def memory(self) -> float:
        """MB that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self) -> float:
        """Press Ctrl-C; return the seconds until the process has ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return time.monotonic() - began


class Visitor:
    """A browser at the page."""

    def __init__(self, url: str, profile: Path, width: int = 1280, *, dark: bool = False) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for argument in (*CHROMIUM, f"--user-data-dir={profile}", f"--window-size={width},1000"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        options.binary_location = str(shutil.which("chromium"))
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        if width < 600:
            phone = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        if dark:
            scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get(url)
        self.see("button#run")

    def all(self, css: str) -> list:
        return self.driver.find_elements("css selector", css)

    def see(self, css: str, seconds: float = 60):
        """Return the first element of that kind that is shown, once there is one."""
        return until(lambda: next((e for e in self.all(css) if e.is_displayed()), None), seconds)

    def click(self, css: str, text: str = "") -> None:
        element = until(lambda: next((e for e in self.all(css) if text in e.text), None))
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        time.sleep(0.2)
        element.click()

    def number(self, name: str, value: int) -> None:
        """Type a number into a slider's field."""
        field = self.see(f"#{name} input[type=number]")
        field.clear()
        field.send_keys(str(value), "\t")

    @property
    def status(self) -> str:
        return self.driver.find_element("css selector", "#status").text

    def told(self, words: str, seconds: float = 60) -> str:
        """Return the status once it has these words."""
        return until(lambda: self.status if words in self.status else None, seconds)

    def upload(self, path: Path) -> None:
        self.driver.find_element("css selector", "#picture input[type=file]").send_keys(str(path))

    def shot(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        taken = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png", "clip": clip}
        )
        SHOTS.mkdir(exist_ok=True)
        path = SHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def hosts(self) -> set[str]:
        """Return the hosts that the browser has asked for anything."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = (m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent")
        return {url.split("/")[2].split(":")[0] for url in sent if url.startswith(("http", "ws"))}


def until(check, seconds: float = 60):
    """Return what `check` returns once that is true."""
    from selenium.common import StaleElementReferenceException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := check():
                return found
        except StaleElementReferenceException:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
