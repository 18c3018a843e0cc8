"""Chaos over the whole pipeline: attack a run, give the same command again, and hold it against an undisturbed one.

python -m tests.chaos [--short] [--cases 300] [--seed 0] [--minutes 0] [--only WORD] [--record FILE] [--folder FOLDER]

The last line is the count. With `--record` each case is noted in a file as it ends, and the same command goes on from
there. Steps are forks of this process, which has imported what takes seconds; a job's rank is the step's own process.
`python -m tests.kill_matrix` kills ranks of a job of two, `tests/run` and `tests/launch` the rest.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.chaos.bench import Bench
from tests.chaos.forms import long, short
from tests.chaos.served import Servers


def warm(folder: Path) -> None:
    """Import and set up what each step would: forks have it then. Leaves an empty database of MLflow."""
    import boto3  # noqa: F401
    import datasets  # noqa: F401
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM  # noqa: F401

    import fipo.check
    import fipo.data.step
    import fipo.release.promotion
    import fipo.report.run
    import fipo.training.evaluate
    import fipo.training.rl.loop
    import fipo.training.sft  # noqa: F401
    from fipo.distributed.bootstrap import import_deepspeed
    from fipo.figures import apart, to_svg
    from fipo.tracking.client import connect

    import_deepspeed()
    connect(f"sqlite:///{folder}/tables.db").search_registered_models()
    figures, _ = apart(1, width=3.0)
    to_svg(figures[0], "warm")  # finds the fonts


def main() -> int:
    """Attack as often as asked, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the short form, the same each time")
    parser.add_argument("--cases", type=int, default=300, help="how many (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no case after so many (default: no limit)")
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--record", type=Path, help="a file of the cases that have been tried, to go on from")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    began, tried = time.monotonic(), recorded(options.record)
    with tempfile.TemporaryDirectory(prefix="fipo-chaos-") as temporary:
        bench = Bench(options.folder or Path(temporary))
        bench.folder.mkdir(exist_ok=True)
        warm(bench.folder)
        bench.prepare()
        with Servers(bench) as servers:
            cases = short() if options.short else islice(long(bench, options.seed, servers), options.cases)
            chosen = [case for case in cases if options.only in case.name]
            for number, case in enumerate(chosen[len(tried) :], 1 + len(tried)):
                if options.minutes and time.monotonic() - began > 60 * options.minutes:
                    break
                before = cpu_seconds()
                faults = case.run(bench)
                tried.append({"name": case.name, "faults": faults, "cpu_seconds": round(cpu_seconds() - before, 2)})
                if options.record:
                    with options.record.open("a") as file:
                        file.write(json.dumps(tried[-1]) + "\n")
                said(f"{number:4} {'LOST' if faults else 'survived'}  {case.name}")
                for fault in faults:
                    said("     " + fault.replace("\n", "\n     "))
        shutil.rmtree(bench.runs, ignore_errors=True)
    lost = sum(bool(case["faults"]) for case in tried)
    said(f"{len(tried)} tried, {len(tried) - lost} survived, {lost} lost")
    return bool(lost)


def recorded(path: Path | None) -> list[dict[str, object]]:
    """The cases of an earlier command."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def cpu_seconds() -> float:
    """Of all processes that have ended, but servers."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def said(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
