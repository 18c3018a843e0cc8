"""Two nodes, a worker killed, another frozen, and the weights of an undisturbed run: `python -m tests.two_nodes`.

The nodes are network namespaces, joined by a pair of virtual Ethernet devices, with a torchrun in each that meet by
c10d. In the middle of an update one node's worker is killed with SIGKILL; later, in the middle of another, the other
node's is stopped with SIGSTOP. Needs root, and `ip` (the package iproute2).
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fipo.launch.local import torchrun
from fipo.run.run import Run
from tests.present import present
from tests.struck import Job, discard, prepared, weights

PORT = 29400
HOST, GUEST = "10.231.77.1", "10.231.77.2"


def why_not() -> str:
    """What is missing on this machine; empty when network namespaces can be made."""
    name = f"fipo-probe-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    except FileNotFoundError:
        return "no `ip` command: install iproute2"
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


@contextmanager
def two_namespaces() -> Iterator[dict[str, tuple[str, str]]]:
    """Two namespaces that reach each other and nothing else: {name: (device, address)}."""
    tag = str(os.getpid())
    nodes = {f"fipo-a-{tag}": (f"fa{tag}", HOST), f"fipo-b-{tag}": (f"fb{tag}", GUEST)}
    (first, (device, _)), (second, (peer, _)) = nodes.items()
    try:
        for name in nodes:
            _ip("netns", "add", name)
        _ip("link", "add", device, "netns", first, "type", "veth", "peer", "name", peer, "netns", second)
        for name, (device, address) in nodes.items():
            _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            for link in (device, "lo"):
                _ip("-n", name, "link", "set", link, "up")
        yield nodes
    finally:
        for name in nodes:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@dataclass(frozen=True)
class Outcome:
    """What became of the struck job."""

    sha256: str
    """Of its weights."""
    killed_seconds: float
    """From SIGKILL until the other node's worker said that its peer is gone."""
    frozen_seconds: float
    """From SIGSTOP until the other node's worker said so."""


def strike(config) -> Outcome:
    """Train on two nodes, kill a worker, freeze another, and wait for the end."""
    discard(config)
    job = Job()
    with two_namespaces() as nodes:
        try:
            for name, (device, address) in nodes.items():
                job.start(
                    config,
                    name,
                    *("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "5"),
                    *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOST}:{PORT}", "--rdzv-id", "two-nodes"),
                    *("--rdzv-conf", f"is_host={str(address == HOST).lower()}", "--local-addr", address),
                    prefix=("ip", "netns", "exec", name),
                    GLOO_SOCKET_IFNAME=device,
                )
            first, second = nodes
            killed = _send(job, second, signal.SIGKILL, update=3)
            frozen = _send(job, first, signal.SIGSTOP, update=3)
            assert job.wait() == [0, 0], job.output()
            return Outcome(weights(config), killed, frozen)
        finally:
            job.kill()


def _send(job: Job, node: str, number: signal.Signals, *, update: int) -> float:
    """Send a signal to the node's worker in its update of this number; seconds until the other node notices."""
    line = job.until(
        lambda line: line.node == node and line.announcement and line.announcement[:2] == ("update", update)
    )
    assert line, job.output()
    os.kill(present(line.announcement)[3], number)
    noticed = job.until(lambda line: line.node != node and "another rank crashed, or froze" in line.text)
    assert noticed, job.output()
    return noticed.seconds - line.seconds


def main() -> None:
    """Compare the struck run with an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout-seconds", type=float, default=30.0, help="distributed.timeout_seconds (default: 30)")
    timeout = parser.parse_args().timeout_seconds
    if reason := why_not():
        sys.exit(f"cannot run: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        config = prepared(Path(folder), f"distributed.timeout_seconds={timeout}")
        torchrun("tests.announced", ["--config", str(Run(config).write_settings())], processes=2, max_restarts=0)
        expected = weights(config)
        outcome = strike(config)
    print(f"undisturbed, one node:  {expected}")
    print(f"struck, two nodes:      {outcome.sha256}")
    print(f"the killed worker was noticed after {outcome.killed_seconds:.1f} s")
    timeout = config.distributed.timeout_seconds
    print(
        f"the frozen worker was noticed after {outcome.frozen_seconds:.1f} s (distributed.timeout_seconds={timeout:g})"
    )
    sys.exit(outcome.sha256 != expected)


if __name__ == "__main__":
    main()
