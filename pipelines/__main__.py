"""`python -m pipelines`: run a pipeline on this machine, or compile, submit and schedule it for a cluster."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.errors import ConfigError, FipoError
from fipo.redaction import guard_output

if TYPE_CHECKING:
    from fipo_kfp.pipelines.remote import Endpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit code."""
    guard_output()
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except FipoError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    from fipo_kfp.pipelines.local import run

    parameters = _parameters(options)
    config = run(_pipeline(options), parameters, options.overrides)
    if _pipeline(options) == "fipo_training":
        from fipo.report.run import print_summary
        from fipo.run.run import Run

        print_summary(Run(config).step_as_left("report"))


def _compile(options: argparse.Namespace) -> None:
    from fipo_kfp.pipelines.package import PIPELINES, compile_pipeline

    for name in PIPELINES:
        print(compile_pipeline(name, options.output) if options.output else compile_pipeline(name))


def _submit(options: argparse.Namespace) -> None:
    from fipo_kfp.pipelines.remote import submit

    parameters = _parameters(options)
    submit(_endpoint(options), _pipeline(options), parameters, overrides=options.overrides)


def _schedule(options: argparse.Namespace) -> None:
    from fipo_kfp.pipelines.remote import schedule, unschedule

    if options.off:
        unschedule(_endpoint(options), options.name)
        print(f"schedule {options.name}: off")
        return
    if not options.cron:
        raise ConfigError("--cron: required, such as '0 0 3 * * *' (six fields, seconds first); or --off")
    parameters = _parameters(options)
    name = parameters.get("run_name", "")
    if not ("{time}" in name or "{id}" in name):
        print(
            f"run_name {name!r} is the same every time: each run reuses what the one before has finished with the same "
            "settings; nightly-{time} gives each a name of its own",
            file=sys.stderr,
        )
    done = schedule(
        _endpoint(options),
        _pipeline(options),
        parameters,
        overrides=options.overrides,
        name=options.name,
        cron=options.cron,
        max_concurrency=options.max_concurrency,
        catch_up=options.catch_up,
    )
    print(f"schedule {options.name}: {done}")


def _list(options: argparse.Namespace) -> None:
    from rich.table import Column, Table

    from fipo.findings import console
    from fipo_kfp.pipelines.remote import overview

    schedules, runs = overview(_endpoint(options))
    table = Table(Column("schedule", overflow="fold"), "cron", "status", box=None)
    for entry in schedules:
        cron = entry.trigger.cron_schedule
        table.add_row(entry.display_name, cron.cron if cron else "", entry.status.lower())
    screen = console(columns=160)
    screen.print(table)
    # An id is there to be copied: on a narrow screen the name is folded.
    table = Table(
        Column("run", overflow="fold"), "state", "created", Column("id", no_wrap=True, min_width=36), box=None
    )
    for entry in runs:
        table.add_row(
            entry.display_name, (entry.state or "").lower(), f"{entry.created_at:%Y-%m-%d %H:%M}", entry.run_id
        )
    screen.print(table)


def _reap(_: argparse.Namespace) -> None:
    from fipo.config import load_config
    from fipo.launch import reaper
    from fipo.launch.cluster import Cluster
    from fipo_kfp.components.form import Form

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # a pod's first process has no default
    cluster, config = Cluster(), load_config("demo", Form("demo").overrides())
    while True:
        for name, reason in reaper.reap(cluster).items():
            print(f"deleted TrainJob {name}: {reason}", flush=True)
        for run, state in reaper.close(cluster, config.tracking_uri).items():
            print(f"closed run {run} in MLflow: {state}", flush=True)
        time.sleep(reaper.ROUND_SECONDS)


def _endpoint(options: argparse.Namespace) -> "Endpoint":
    from fipo_kfp.pipelines.remote import Endpoint

    return Endpoint(host=options.host, namespace=options.namespace, experiment=options.experiment)


def _pipeline(options: argparse.Namespace) -> str:
    return "fipo_study" if options.study else str(options.pipeline)


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    given = {"recipe": options.recipe}
    if options.study:
        from fipo_kfp.pipelines import study

        given = study.parameters(options.study)
    for text in options.parameters:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--parameter {text!r}: expected name=value, such as run_nodes=2")
        given[name] = value
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    pipeline, endpoint = _of_a_pipeline(), _of_an_endpoint()

    run = commands.add_parser("run", parents=[pipeline], help="run a pipeline on this machine")
    run.set_defaults(command=_run)

    compile_ = commands.add_parser("compile", help="write the packages that a cluster runs")
    compile_.add_argument("--output", type=Path, help="folder (default: pipelines/compiled)")
    compile_.set_defaults(command=_compile)

    submit = commands.add_parser("submit", parents=[pipeline, endpoint], help="start a run on a cluster")
    submit.set_defaults(command=_submit)

    schedule = commands.add_parser(
        "schedule", parents=[pipeline, endpoint], help="have a cluster run a pipeline by the clock"
    )
    _add_schedule(schedule)

    list_ = commands.add_parser("list", parents=[endpoint], help="schedules and runs on a cluster")
    list_.set_defaults(command=_list)

    reap = commands.add_parser("reap", help="end what runs that have ended left behind, until stopped")
    reap.set_defaults(command=_reap)
    return parser


def _of_a_pipeline() -> argparse.ArgumentParser:
    pipeline = argparse.ArgumentParser(add_help=False)
    which = pipeline.add_mutually_exclusive_group()
    which.add_argument("--pipeline", default="fipo_training", help="default: %(default)s")
    which.add_argument("--study", type=Path, metavar="FILE", help="register a study and run its trials: fipo_study")
    pipeline.add_argument("--recipe", default="demo", help="name of a shipped recipe, or a file (default: %(default)s)")
    pipeline.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a setting of the recipe",
    )
    pipeline.add_argument(
        "--parameter",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter of the pipeline, such as run_nodes=2",
    )
    return pipeline


def _of_an_endpoint() -> argparse.ArgumentParser:
    endpoint = argparse.ArgumentParser(add_help=False)
    endpoint.add_argument("--host", default="", help="URL of Kubeflow Pipelines (default: KF_PIPELINES_ENDPOINT)")
    endpoint.add_argument("--namespace", default="", help="profile, where Kubeflow has several users")
    endpoint.add_argument("--experiment", default="fipo", help="Kubeflow's experiment (default: %(default)s)")
    return endpoint


def _add_schedule(schedule: argparse.ArgumentParser) -> None:
    schedule.add_argument("--name", required=True, help="one schedule of a name is active; a changed one replaces it")
    schedule.add_argument("--cron", default="", help="six fields, seconds first: '0 0 3 * * *' is every night at three")
    schedule.add_argument("--max-concurrency", type=int, default=1, help="runs at the same time (default: %(default)s)")
    schedule.add_argument("--catch-up", action="store_true", help="make up for runs missed while the schedule was off")
    schedule.add_argument("--off", action="store_true", help="stop the schedule")
    schedule.set_defaults(command=_schedule)


if __name__ == "__main__":
    sys.exit(main())
