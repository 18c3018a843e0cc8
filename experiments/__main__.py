"""Run a study, and write what it found.

python -m experiments run [STUDY] [--parallel 2] [--only PATTERN]
python -m experiments list [STUDY]
python -m experiments check [STUDY]
python -m experiments report [STUDY] [--stored]
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shlex
import sys
from pathlib import Path

from experiments.report import write_report
from experiments.results import compare_results, read_results, store_results, stored_results
from experiments.runner import Runner
from experiments.study import FOLDER, Study, Trial, load_study
from fipo.errors import ConfigError, FipoError


def main() -> None:
    """Parse the command line and do it."""
    options = _parser().parse_args()
    try:
        options.command(options)
    except FipoError as error:
        print(f"experiments: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _run(options: argparse.Namespace) -> None:
    Runner(options.directory, options.parallel).run(_trials(options), lambda line: print(line, flush=True))


def _list(options: argparse.Namespace) -> None:
    for trial in _trials(options):
        settings = shlex.join(trial.study.arms[trial.arm])
        print(f"{trial.name:44} {settings}")


def _report(options: argparse.Namespace) -> None:
    study = load_study(options.study)
    stored = _kept(study)
    if not options.stored:
        store_results(read_results(study, options.directory), stored)
    results = stored_results(study, stored)
    document = "experiments.md" if study.name == "demo-study" else f"experiments-{study.name}.md"
    for path in write_report(study, results, options.output or Path("docs") / document):
        print(path)


def _check(options: argparse.Namespace) -> None:
    study = load_study(options.study)
    for line in compare_results(read_results(study, options.directory), stored_results(study, _kept(study))):
        print(line)


def _kept(study: Study) -> Path:
    return FOLDER / f"{study.name}.jsonl"


def _trials(options: argparse.Namespace) -> list[Trial]:
    trials = [trial for trial in load_study(options.study).trials() if fnmatch.fnmatch(trial.name, options.only)]
    if not trials:
        raise ConfigError(f"--only {options.only!r}: matches no trial; see `python -m experiments list`")
    return trials


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("study", nargs="?", default="demo-study", help="a study of experiments/, or a YAML file")
    common.add_argument("--directory", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("--only", default="*", metavar="PATTERN", help="trials by name, such as '*-fipo' or '*-s1-*'")

    run = commands.add_parser("run", parents=[common, some], help="run the trials that are not finished")
    cores = len(os.sched_getaffinity(0))
    run.add_argument("--parallel", type=int, default=cores, help=f"trials at a time (default: {cores}, one a core)")
    run.set_defaults(command=_run)
    commands.add_parser("list", parents=[common, some], help="name the trials").set_defaults(command=_list)
    check = commands.add_parser("check", parents=[common], help="compare your runs with the kept results")
    check.set_defaults(command=_check)
    report = commands.add_parser("report", parents=[common], help="write tables and figures from MLflow, and keep both")
    report.add_argument("--stored", action="store_true", help="from the results kept in experiments/, not from MLflow")
    report.add_argument("--output", type=Path, help="the document (default: docs/experiments.md; -STUDY for others)")
    report.set_defaults(command=_report)
    return parser


if __name__ == "__main__":
    main()
