"""Kill -9 at random points of training, saving included, then the same command: the weights of an undisturbed run.

python -m tests.kill_matrix [--kills 20] [--seed 0]

Two ranks train four steps, which takes a second; importing what they need takes ten. So this process imports it once,
and the ranks are forks of it, in an environment as torchrun's.
"""

import argparse
import multiprocessing
import os
import queue
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from fipo.distributed.bootstrap import import_deepspeed
from fipo.tracking.client import load
from tests import announced
from tests.present import present
from tests.struck import discard, prepared, weights

RANKS = 2
ALL = RANKS
"""Victim of a strike that kills every rank at once, as a lost machine does."""


@dataclass(frozen=True)
class Strike:
    """Where to kill what."""

    point: str
    number: int
    victim: int
    """A rank, or `ALL`."""
    delay_seconds: float
    """After the point is announced."""

    @classmethod
    def drawn(cls, generator: random.Random, passed: Counter[tuple[str, int]]) -> "Strike":
        """A random one, of the points that each rank passed so often."""
        point = generator.choice(announced.POINTS)
        victim = generator.choice([victim for victim in (0, 1, ALL) if passed[point, victim % RANKS]])
        number = generator.randint(1, passed[point, victim % RANKS])
        return cls(point, number, victim, generator.uniform(0.0, 0.1))

    def land(self) -> None:
        """In the victim itself, or in rank 0 for all: a process beside them may come late on a busy machine."""
        time.sleep(self.delay_seconds)
        others = psutil.Process(os.getppid()).children() if self.victim == ALL else []
        for process in [other for other in others if other.pid != os.getpid()]:
            process.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    def __str__(self) -> str:
        """In words."""
        victim = "all ranks" if self.victim == ALL else f"rank {self.victim}"
        return f"{victim} {1000 * self.delay_seconds:.0f} ms after {self.point} {self.number}"


class Ranks:
    """The ranks of one job: forks of this process."""

    def __init__(self, config, strike: Strike | None = None) -> None:
        self._strike = strike
        read, self._write = os.pipe()
        self.output: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        fork = multiprocessing.get_context("fork")
        self.processes = [fork.Process(target=self._rank, args=(config, rank, port)) for rank in range(RANKS)]
        for process in self.processes:
            process.start()
        os.close(self._write)
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    def until(self, wanted: Callable[[str], object]) -> str:
        """The first line of which this is true; empty when all ranks end without."""
        while line := self._lines.get(timeout=600):
            self.output.append(line)
            if wanted(line):
                return line
        return ""

    def wait(self) -> list[int]:
        """Exit codes, when all that was printed is in `output`."""
        self.until(lambda line: False)
        for process in self.processes:
            process.join()
        return [present(process.exitcode) for process in self.processes]

    def _rank(self, config, rank: int, port: int) -> None:
        os.dup2(self._write, 1)
        os.dup2(self._write, 2)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_RANK": str(rank)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if self._strike and rank == self._strike.victim % RANKS:
            announced.struck = (self._strike.point, self._strike.number, self._strike.land)
        sys.argv = ["rank", "--config", str(config.run_directory / "config.yaml")]
        announced.main()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, errors="replace") as lines:
            for line in lines:
                if line.strip():
                    self._lines.put(line.rstrip())
        self._lines.put("")


def survives(config, strike: Strike) -> str:
    """Train from the start, strike, start again; the SHA-256 of the weights.

    Raises:
        AssertionError: the strike missed, or the second start failed.
    """
    discard(config)
    ranks = Ranks(config, strike)
    codes = ranks.wait()
    assert set(codes) == ({-9} if strike.victim == ALL else {-9, 1}), (str(strike), codes, ranks.output)
    assert not weights(config)
    again = Ranks(config)
    assert again.wait() == [0] * RANKS, "\n".join(again.output)
    return weights(config)


def undisturbed(config) -> tuple[str, Counter[tuple[str, int]]]:
    """The SHA-256 of the weights of a run that nobody struck, and how often it passed each (point, rank)."""
    discard(config)
    ranks = Ranks(config)
    assert ranks.wait() == [0] * RANKS, "\n".join(ranks.output)
    found = (re.fullmatch(r"@ (.+) \d+ (\d) \d+", line) for line in ranks.output)
    return weights(config), Counter((one[1], int(one[2])) for one in found if one)


def preload() -> None:
    """Import what training imports late."""
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM  # noqa: F401

    import_deepspeed()
    load()


def main() -> None:
    """Strike as often as asked, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many runs to kill (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which points (default: 0)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    generator, same = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        config = prepared(options.folder or Path(temporary))
        preload()
        expected, passed = undisturbed(config)
        print(f"undisturbed: {expected}", flush=True)
        for number in range(1, options.kills + 1):
            strike = Strike.drawn(generator, passed)
            found = survives(config, strike)
            same += found == expected
            print(f"{number:3} {'same' if found == expected else found}  killed {strike}", flush=True)
    print(f"{same} of {options.kills} end with the weights of the undisturbed run, bit for bit")
    sys.exit(same != options.kills)


if __name__ == "__main__":
    main()
