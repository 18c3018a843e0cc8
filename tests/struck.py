"""A tiny training job to strike: started under torchrun, followed by its announcements, compared by its weights."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fipo.config import Config, load_config
from fipo.run.run import Run
from tests.present import present

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "tests" / "pipelines" / "tiny.yaml"
SETTINGS = ("train.steps=4", "distributed.processes=2", "distributed.timeout_seconds=20")


def prepared(folder: Path, *settings: str) -> Config:
    """The settings of the tiny run in `folder`, whose steps before training are done."""
    settings = (f"run.directory={folder}", *SETTINGS, *settings)
    options = [part for setting in settings for part in ("--set", setting)]
    for step in ("prepare", "sft"):
        # In processes of their own: what is forked later must not share their connections to MLflow's database.
        subprocess.run([sys.executable, "-m", "fipo.cli", step, "--recipe", str(RECIPE), *options], check=True)
    config = load_config(RECIPE, settings)
    Run(config).write_settings()
    return config


def discard(config: Config) -> None:
    """Have the next job begin anew."""
    Run(config).step("train").discard()


def weights(config: Config) -> str:
    """SHA-256 of the trained model; empty while training has not finished."""
    done = Run(config).step("train").finished()
    return done.outputs["model"].sha256 if done else ""


@dataclass
class Line:
    """What one process printed."""

    node: str
    text: str
    seconds: float
    """Since the job began."""

    @property
    def announcement(self) -> tuple[str, int, int, int] | None:
        """(point, number, rank, process id), if it is one."""
        found = re.fullmatch(r"@ (.+) (\d+) (\d+) (\d+)", self.text)
        return (found[1], int(found[2]), int(found[3]), int(found[4])) if found else None


@dataclass
class Job:
    """`fipo.launch.node` on one or more nodes."""

    nodes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    printed: list[Line] = field(default_factory=list)
    _lines: queue.Queue[Line] = field(default_factory=queue.Queue)
    _started: float = field(default_factory=time.monotonic)

    def start(
        self,
        config: Config,
        node: str,
        *options: str,
        module: str = "tests.announced",
        prefix: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        """Start one node's torchrun."""
        command = [*prefix, sys.executable, "-m", "fipo.launch.node", *options]
        command += ["--module", module, "--config", str(Run(config).write_settings())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.nodes[node] = process
        threading.Thread(target=self._read, args=(node, process), daemon=True).start()

    def until(self, wanted, seconds: float = 240.0) -> Line | None:
        """Wait for a line of which `wanted(line)` is true; None when all nodes end without."""
        deadline, open_nodes = time.monotonic() + seconds, set(self.nodes)
        while open_nodes:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line.text == "":
                open_nodes.discard(line.node)
                continue
            self.printed.append(line)
            if wanted(line):
                return line
        return None

    def wait(self, seconds: float = 300.0) -> list[int]:
        """Exit codes of the nodes."""
        return [process.wait(seconds) for process in self.nodes.values()]

    def kill(self) -> None:
        """End what is left."""
        for process in self.nodes.values():
            process.kill()
            process.wait()

    def output(self) -> str:
        """All that was printed so far, for a failure's message."""
        self.until(lambda line: False)
        return "\n".join(f"{line.seconds:6.1f} {line.node} {line.text}" for line in self.printed)

    def _read(self, node: str, process: subprocess.Popen[str]) -> None:
        for text in present(process.stdout):
            if text.strip():
                self._lines.put(Line(node, text.rstrip(), time.monotonic() - self._started))
        self._lines.put(Line(node, "", 0.0))
