"""`python -m pipelines`: run a pipeline on this machine, or compile it for a cluster."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fipo.errors import FipoError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except FipoError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    from pipelines.local import run

    config = run(options.recipe, options.overrides)

    from fipo.report.run import print_summary
    from fipo.workspace import Workspace

    print_summary(Workspace(config, "report"))


def _compile(options: argparse.Namespace) -> None:
    from pipelines.package import compile_pipeline

    compile_pipeline(options.output)
    print(f"{options.output}: upload it to Kubeflow Pipelines, or `python -m pipelines submit`")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="run the training pipeline on this machine")
    run.add_argument("--recipe", required=True, help="name of a shipped recipe, or a YAML file")
    run.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a setting of the recipe",
    )
    run.set_defaults(command=_run)

    compile_ = commands.add_parser("compile", help="write the package that a cluster runs")
    compile_.add_argument("--output", type=Path, default=Path("fipo-training.yaml"), help="default: %(default)s")
    compile_.set_defaults(command=_compile)
    return parser


if __name__ == "__main__":
    sys.exit(main())
