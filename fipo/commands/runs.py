"""What runs have left: `report`, `compare`, `status`, `inspect`, `verify`, `ui`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fipo.commands.options import RECIPE, Commands, overrides, port, read_config
from fipo.errors import ConfigError, StorageError
from fipo.files import private_folder

RUN = "name of a run in runs/, its folder, or its address in an object store (s3://bucket/prefix/RUN)"
REACHED = overrides(
    "where this machine reaches MLflow (tracking.uri), and browsers MLflow and Kubeflow (links.mlflow, "
    "links.pipelines); may be repeated"
)
REACHED.add_argument("run", metavar="RUN", help=RUN)


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    report = commands.add_parser("report", parents=[REACHED], help="write a run's report and print its summary")
    report.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the result as one picture instead")
    report.set_defaults(command=_report)

    compare = commands.add_parser("compare", help="compare the trained models of finished runs, paired by problem")
    compare.add_argument("runs", nargs="+", metavar="RUN", help=f"{RUN}; the first is the baseline")
    compare.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="where to draw them (default: in the runs' folder)"
    )
    compare.set_defaults(command=_compare)

    status = commands.add_parser("status", parents=[REACHED], help="show a run's steps, outputs, scores and pages")
    status.set_defaults(command=_status)

    inspect = commands.add_parser("inspect", parents=[REACHED], help="look at every response, token by token")
    inspect.description = (
        "A page on this machine: the responses of each step and group, their tokens coloured by what FIPO made of them."
        " RUN may be a folder of records that were copied out of a store, too."
    )
    inspect.add_argument("--port", type=port, default=5010, help="port on this machine (default: 5010)")
    inspect.set_defaults(command=_inspect)
    verify = commands.add_parser("verify", parents=[REACHED], help="prove what a run's registered model was trained on")
    verify.set_defaults(command=_verify)

    ui = commands.add_parser("ui", parents=[RECIPE], help="serve the runs' reports, as they grow, and MLflow")
    ui.description = "MLflow is started again when it dies. The reports are at the next port, or another that is free."
    ui.add_argument("--port", type=port, default=5000, help="port on this machine (default: 5000)")
    ui.set_defaults(command=_ui)


def _report(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    from fipo.report.live import REPORT
    from fipo.report.run import print_earlier, print_summary, write_figure, write_here

    if not found.in_store:
        try:
            step = found.run.step("report")
        except ConfigError as error:  # the steps before it have not finished with the present settings
            earlier = found.run.result("report")
            if earlier is None or options.figure:
                page = found.run.directory / REPORT
                so_far = f". What there is so far: {page}" if page.is_file() else ""
                raise ConfigError(f"{error}{so_far}") from None
            print_earlier(found.run, earlier)
            return
        step.run()
    workspace = found.run.step_as_left("report")
    if found.in_store:
        write_here(workspace)
    if options.figure:
        write_figure(workspace, options.figure)
        print(f"figure   {options.figure}")
    else:
        print_summary(workspace)


def _compare(options: argparse.Namespace) -> None:
    from fipo.run.found import distinct, find_run

    runs = distinct([find_run(run) for run in options.runs])
    from fipo.findings import console
    from fipo.report.compare import compare_runs, figure_name, write_figures
    from fipo.report.terminal import comparison_table

    benchmarks = compare_runs(runs)
    for table in [comparison_table(answers) for answers in benchmarks.values()]:
        console().print(table)
    for name in (name for name, run in runs.items() if not run.is_current("evaluate")):
        print(f"{name}: these answers are outdated, of other settings than the run has now: see `fipo status`")
    here = next(iter(runs.values())).config.run.directory
    for path in write_figures(benchmarks, options.figure or here / figure_name(runs.values())):
        print(f"figure   {path}")


def _status(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    from fipo.report.status import print_status, status_of

    print_status(status_of(found))


def _inspect(options: argparse.Namespace) -> None:
    from fipo.inspect.server import serve

    serve(options.run, options.overrides, options.port)


def _verify(options: argparse.Namespace) -> None:
    from fipo.run.found import find_run

    found = find_run(options.run, options.overrides)
    from fipo.findings import console
    from fipo.report.terminal import links_table

    links = found.run.verify()
    console().print(links_table(links))
    broken = next((link for link in links if link.holds is False), None)
    if broken:
        raise StorageError(f"verify: {broken.step} {broken.what}: {broken.why}")
    told = sum(link.holds is True for link in links)
    others = "" if told == len(links) else "; the others cannot be told from here"
    print(f"{told} of {len(links)} claims hold{others}")


def _ui(options: argparse.Namespace) -> None:
    config = read_config(options)
    from fipo.report.pages import serve_reports
    from fipo.tracking.server import serve

    private_folder(config.run.directory)
    print(f"reports are at {serve_reports(config.run.directory, options.port + 1)}", flush=True)
    serve(config.tracking_uri, artifact_root=f"{config.storage_uri}/mlflow", port=options.port)
