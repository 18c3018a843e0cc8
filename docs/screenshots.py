"""Take the pictures of MLflow, the report and `fipo inspect` in docs/images, in headless Chromium (Debian: `chromium`).

    python docs/screenshots.py runs/fipo-s0 --moments warm-up.html training.html

The run shares its MLflow database with others: MLflow's comparison page shows the training runs of all. Moments are
copies of the run's report.html while it lived. Look at the pictures before you commit them.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import websocket

from fipo.config import Config, load_config
from fipo.run.run import Run
from fipo.tracking import view
from fipo.tracking.client import RUN_KEY, connect, find_runs
from fipo.tracking.server import Server

IMAGES = Path(__file__).parent / "images"
EXPERIMENT = "fipo/train"
WIDTH, PHONE = 1500, 390


class Browser:
    """One page, driven over the DevTools protocol."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=120, suppress_origin=True)
        self._requests = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._requests += 1
        self._socket.send(json.dumps({"id": self._requests, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._requests:
                return dict(message.get("result", {}))

    def script(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, url: str, shows: str, seconds: float = 120.0) -> None:
        """Go to a page and wait until it shows this text."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        wait(lambda: shows in (self.script("document.body ? document.body.innerText : ''") or ""), seconds)
        time.sleep(3)  # charts are drawn after their titles

    def shoot(self, path: Path, height: int, width: int = WIDTH) -> None:
        """Save what the page shows in a window of this size."""
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1 + phone, mobile=phone
        )
        time.sleep(4)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        print(path)


def wait(condition: Callable[[], object], seconds: float) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the page did not show what was expected")
        time.sleep(0.3)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with one page."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        raise SystemExit("no chromium on this machine: apt-get install chromium")
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command += [f"--remote-debugging-port={port}", f"--user-data-dir={profile}", f"--window-size={WIDTH},1000"]
        process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            pages: list[dict[str, str]] = []

            def started() -> bool:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                    pages[:] = [page for page in json.load(answer) if page["type"] == "page"]
                return bool(pages)

            wait(started, 60)
            yield Browser(pages[0]["webSocketDebuggerUrl"])
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


CLOSE = """document.querySelector('[data-component-id="mlflow.assistant.chat_panel.close"]')?.click();"""
"""What is beside a page of MLflow."""
CLEAN_UP = f"""
    {CLOSE}"""
CLEAN_UP += """
    [...document.querySelectorAll('label, button')].find(one => one.innerText === 'Model training')?.click();
    document.head.insertAdjacentHTML('beforeend', '<style>.modebar { display: none }</style>');
"""
"""Close what is beside the charts."""


def open_charts(browser: Browser, server: Server, tracking_uri: str, name: str) -> None:
    """MLflow's page of the training runs, all of them in one chart for each metric, in the order of fipo's view."""
    experiment = connect(tracking_uri).get_experiment_by_name(name)
    assert experiment, f"no run has logged to {name}"
    browser.open(f"{server.url}/{view.address_of(experiment.experiment_id)}", shows="matching runs")
    drawn = "[...document.querySelectorAll('.js-plotly-plot')].filter(one => one.querySelector('.trace')).length"
    wait(lambda: (browser.script(drawn) or 0) >= 6, 120)
    browser.script(CLEAN_UP)


def shoot_inspect(browser: Browser, run: Path, output: Path) -> None:
    """`fipo inspect` on the newest step: its groups, two siblings of a wrong response, and the same on a phone."""
    port = free_port()
    page = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "fipo.cli", "inspect", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait(lambda: not subprocess.run(["curl", "--silent", page], stdout=subprocess.DEVNULL).returncode, 60)
        browser.call("Page.navigate", url=page)
        browser.open(page, shows="Find here")
        groups = browser.script("location.href")
        wrong = browser.script("[...document.querySelectorAll('.groups li:not(.idle) .chip.wrong')].at(-1).href")
        for name, width, scheme, address in (
            ("inspect-step", 1200, "light", groups),
            ("inspect", 1200, "light", wrong),
            ("inspect-dark", 1200, "dark", f"{wrong}?colour=future_kl"),
            ("inspect-phone", 390, "light", wrong),
        ):
            scheme_of_page = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", features=scheme_of_page)
            browser.open(address, shows="step")
            if name != "inspect-step":
                browser.script("document.querySelector('[data-key=b]').click()")
                time.sleep(2)
            browser.shoot(output / f"{name}.png", height=640 if width > 500 else 844, width=width)
    finally:
        server.terminate()
        server.wait(20)


def open_run(browser: Browser, server: Server, config: Config) -> None:
    """MLflow's page of the whole run."""
    client = connect(config.tracking_uri)
    (run,) = find_runs(client, RUN_KEY, Run(config).key)
    page = f"{server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    browser.open(page, shows="Description")
    browser.script(CLOSE)


def main() -> None:
    """All pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--moments", type=Path, nargs="*", default=[], help="copies of its page while it lived")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    config = load_config(options.run / "config.yaml")
    server = Server(config.tracking_uri, f"{config.storage_uri}/mlflow", free_port())
    server.start()
    try:
        wait(server.answers, 180)
        with chromium() as browser:
            browser.call("Page.enable")
            browser.open(f"{server.url}/#/experiments", shows="fipo/train")
            browser.script(CLOSE)
            browser.shoot(options.output / "mlflow-experiments.png", height=700)
            open_run(browser, server, config)
            browser.shoot(options.output / "mlflow-run.png", height=1000)
            open_charts(browser, server, config.tracking_uri, EXPERIMENT)
            browser.shoot(options.output / "mlflow-compare.png", height=1150)
            browser.open((options.run / "report.html").absolute().as_uri(), shows="accuracy")
            browser.shoot(options.output / "report.png", height=1500)
            shoot_inspect(browser, options.run, options.output)
            for moment in options.moments:
                browser.open(moment.absolute().as_uri(), shows="as of")
                browser.shoot(options.output / f"live-{moment.stem}.png", height=1300, width=1200)
                browser.shoot(options.output / f"live-{moment.stem}-phone.png", height=1300, width=PHONE)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
