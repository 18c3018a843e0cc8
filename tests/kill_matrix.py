"""Kill -9 at random points of training, saving included, then the same command: the weights of an undisturbed run.

python -m tests.kill_matrix [--kills 20] [--seed 0]
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.announced import POINTS
from tests.struck import Job, discard, prepared, weights

OPTIONS = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "0")


@dataclass(frozen=True)
class Strike:
    """Where to kill what."""

    point: str
    number: int
    victim: int
    """Rank; 2 is torchrun, and the workers with it."""
    delay_seconds: float
    """After the point is announced."""

    @classmethod
    def drawn(cls, generator: random.Random, passed: Counter) -> "Strike":
        """A random one, of the points that each rank passed so often."""
        point = generator.choice(POINTS)
        victim = generator.choice([victim for victim in (0, 1, 2) if passed[point, victim % 2]])
        number = generator.randint(1, passed[point, victim % 2])
        return cls(point, number, victim, generator.uniform(0.0, 0.1))

    def __str__(self) -> str:
        """In words."""
        victim = "torchrun" if self.victim == 2 else f"rank {self.victim}"
        return f"{victim} {1000 * self.delay_seconds:.0f} ms after {self.point} {self.number}"


def survives(config, strike: Strike) -> str:
    """Train from the start, strike, run the same command again; the SHA-256 of the weights.

    Raises:
        AssertionError: the strike missed, or the second command failed.
    """
    discard(config)
    job = Job()
    try:
        job.start(config, "node", *OPTIONS)
        wanted = (strike.point, strike.number, strike.victim % 2)
        line = job.until(lambda line: line.announcement and line.announcement[:3] == wanted)
        assert line, job.output()
        time.sleep(strike.delay_seconds)
        os.kill(job.nodes["node"].pid if strike.victim == 2 else line.announcement[3], signal.SIGKILL)
        assert job.wait() != [0], f"{strike}: the job had ended before"
        assert not weights(config)
        again = Job()
        again.start(config, "node", *OPTIONS)
        assert again.wait() == [0], again.output()
        return weights(config)
    finally:
        job.kill()


def undisturbed(config) -> tuple[str, Counter]:
    """The SHA-256 of the weights of a run that nobody struck, and how often it passed each (point, rank)."""
    discard(config)
    job = Job()
    job.start(config, "node", *OPTIONS)
    assert job.wait() == [0], job.output()
    job.output()
    announcements = [line.announcement for line in job.printed if line.announcement]
    return weights(config), Counter((point, rank) for point, _, rank, _ in announcements)


def main() -> None:
    """Strike as often as asked, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many runs to kill (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which points (default: 0)")
    options = parser.parse_args()
    generator, same = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        config = prepared(Path(folder))
        expected, passed = undisturbed(config)
        print(f"undisturbed: {expected}, passing {dict(passed)}", flush=True)
        for number in range(1, options.kills + 1):
            strike = Strike.drawn(generator, passed)
            found = survives(config, strike)
            same += found == expected
            print(f"{number:3} {'same' if found == expected else found}  killed {strike}", flush=True)
    print(f"{same} of {options.kills} end with the weights of the undisturbed run, bit for bit")
    sys.exit(same != options.kills)


if __name__ == "__main__":
    main()
