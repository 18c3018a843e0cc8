"""Chaos over the whole pipeline: attack a run, give the same command again, and hold it against an undisturbed one.

python -m tests.chaos [--short] [--cases 300] [--seed 0] [--minutes 0] [--only WORD] [--folder FOLDER]

The last line is the count. Steps are forks of this process, which has imported what takes seconds; a job's rank is the
step's own process. `python -m tests.kill_matrix` kills ranks of a job of two, `tests/run` and `tests/launch` the rest.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from tests.chaos.bench import Bench
from tests.chaos.cases import long, said, short
from tests.waiting import free_port, listens, wait_until


def warm() -> None:
    """Import what steps import late."""
    import boto3  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM  # noqa: F401

    import fipo.check
    import fipo.data.step
    import fipo.release.promotion
    import fipo.report.run
    import fipo.training.evaluate
    import fipo.training.rl.loop
    import fipo.training.sft  # noqa: F401
    from fipo.distributed.bootstrap import import_deepspeed
    from fipo.tracking.client import load

    import_deepspeed()
    load()


@contextmanager
def s3_server() -> Iterator[int]:
    """moto, in a process of its own; its port."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        yield port
    finally:
        server.kill()
        server.wait()


def main() -> int:
    """Attack as often as asked, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the short form, the same each time")
    parser.add_argument("--cases", type=int, default=300, help="how many (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no case after so many (default: no limit)")
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    warm()
    began, tried, lost = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="fipo-chaos-") as temporary, s3_server() as s3:
        bench = Bench(options.folder or Path(temporary))
        bench.folder.mkdir(exist_ok=True)
        bench.prepare()
        cases = short() if options.short else islice(long(bench, options.seed, s3), options.cases)
        for case in cases:
            if options.only not in case.name:
                continue
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                break
            faults = case.run(bench)
            tried, lost = tried + 1, lost + bool(faults)
            said(f"{tried:4} {'LOST' if faults else 'survived'}  {case.name}")
            for fault in faults:
                said("     " + fault.replace("\n", "\n     "))
        shutil.rmtree(bench.runs, ignore_errors=True)
    said(f"{tried} tried, {tried - lost} survived, {lost} lost")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
