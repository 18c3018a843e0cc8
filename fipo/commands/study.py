"""`fipo study`: plan a study, run it, and write what it found."""

from __future__ import annotations

import argparse
import fnmatch
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.commands.options import Commands, count
from fipo.errors import ConfigError

if TYPE_CHECKING:
    from fipo.study.study import Trial

DESCRIPTION = """A study trains one task in many ways and with several seeds, and says what the differences are worth.
docs/studies.md shows how to write one."""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `study` and what it can do to the command line."""
    study = commands.add_parser("study", help="compare ways to train, over seeds", description=DESCRIPTION)
    verbs = study.add_subparsers(required=True, metavar="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("study", type=Path, metavar="FILE", help="the study, a YAML file")
    common.add_argument("--directory", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("--only", default="*", metavar="PATTERN", help="trials by name, such as '*-fipo' or '*-s1-*'")
    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument("--stored", action="store_true", help="from the results beside FILE, not from MLflow")

    plan = verbs.add_parser("plan", parents=[common, stored], help="how many seeds the outcome needs, from a pilot")
    plan.add_argument("--pilot", type=Path, metavar="FILE", help="the study that tells the spread (default: this one)")
    plan.set_defaults(command=_plan)
    run = verbs.add_parser("run", parents=[common, some], help="register the study; run what is not finished")
    cores = len(os.sched_getaffinity(0))
    run.add_argument("--parallel", type=count, default=cores, help=f"trials at a time (default: {cores}, one a core)")
    run.set_defaults(command=_run)
    verbs.add_parser("list", parents=[common, some], help="name the trials").set_defaults(command=_list)
    check = verbs.add_parser("check", parents=[common], help="compare your runs with the kept results")
    check.set_defaults(command=_check)
    report = verbs.add_parser("report", parents=[common, stored], help="write what was found, and keep the results")
    report.add_argument("--output", type=Path, metavar="FILE.md", help="default: NAME-report.md beside FILE")
    report.set_defaults(command=_report)


def _plan(options: argparse.Namespace) -> None:
    from fipo.study.comparisons import needs
    from fipo.study.results import read_results, stored_results
    from fipo.study.study import load_study

    study, told_by = load_study(options.study), options.pilot or options.study
    if not study.outcome:
        raise ConfigError(f"study {options.study}: outcome: a plan needs one (score, smallest_effect); docs/studies.md")
    pilot = load_study(told_by)
    results = stored_results(pilot, _kept(told_by)) if options.stored else read_results(pilot, options.directory)
    needed = needs(study, study.outcome, results)
    for need in needed:
        spread = f"spread {need.deviation:.4g} over {need.pilot_seeds} seeds"
        print(f"{need.task:20} {need.arm:24} {spread:32} needs {need.seeds} seeds")
    if not needed:
        raise ConfigError(f"study {told_by}: has no task and arm of {options.study} beside {study.baseline}")
    most, effect = max(need.seeds for need in needed), study.outcome.smallest_effect
    print(f"{most} seeds find {study.outcome.score} differences of {effect} in {study.outcome.power:.0%} of studies")
    print(f"the study has {len(study.seeds)}; take seeds that no pilot had")


def _run(options: argparse.Namespace) -> None:
    trials = _trials(options)
    from fipo.study.registration import register, standing
    from fipo.study.runner import Runner

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    register(options.study, sum((options.directory / each.name).exists() for each in trials[0].study.trials()))
    print(standing(options.study), flush=True)
    Runner(options.directory, options.parallel).run(trials, lambda line: print(line, flush=True))


def _list(options: argparse.Namespace) -> None:
    for trial in _trials(options):
        settings = shlex.join(trial.study.arms[trial.arm])
        print(f"{trial.name:44} {settings}")


def _report(options: argparse.Namespace) -> None:
    from fipo.study.registration import standing
    from fipo.study.report import DEFAULT_TEXT, write_report
    from fipo.study.results import read_results, store_results, stored_results
    from fipo.study.study import load_study

    study, kept = load_study(options.study), _kept(options.study)
    if not options.stored:
        store_results(read_results(study, options.directory), kept)
    text = options.study.with_suffix(".md")
    document = options.output or options.study.with_name(f"{options.study.stem}-report.md")
    for path in write_report(
        study,
        stored_results(study, kept),
        document,
        text=(text if text.is_file() else DEFAULT_TEXT).read_text(encoding="utf-8"),
        standing=standing(options.study),
    ):
        print(path)


def _check(options: argparse.Namespace) -> None:
    from fipo.study.results import compare_results, read_results, stored_results
    from fipo.study.study import load_study

    study = load_study(options.study)
    for line in compare_results(read_results(study, options.directory), stored_results(study, _kept(options.study))):
        print(line)


def _kept(study: Path) -> Path:
    return study.with_suffix(".jsonl")


def _trials(options: argparse.Namespace) -> list[Trial]:
    from fipo.study.study import load_study

    trials = [trial for trial in load_study(options.study).trials() if fnmatch.fnmatch(trial.name, options.only)]
    if not trials:
        raise ConfigError(f"--only {options.only!r}: matches no trial; see `fipo study list {options.study}`")
    return trials
