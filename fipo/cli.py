"""The `fipo` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import fipo
from fipo.errors import WRONG_SETTINGS, FipoError
from fipo.redaction import guard_output

try:
    from fipo.commands import hardware, models, pipeline, runs, settings, study
except ModuleNotFoundError as error:
    sys.exit(f"fipo: {error.name} is not installed here, as with the loss alone: pip install 'fipo[train]'")

FIRST = """first:
  fipo init mine                       write a recipe, rows, a benchmark and a reward function that run as they are
  fipo check --recipe mine/recipe.yaml refuse in seconds what would fail later
  fipo run --recipe mine/recipe.yaml   train, measure, judge and register the model
  fipo ui                              watch it: the reports, as they grow, and MLflow
  fipo chat MODEL                      try the model"""
"""What a newcomer needs."""


class _Parser(argparse.ArgumentParser):
    """Of the command and of all that it can do: each refuses what it does not know with its own usage."""

    def parse_known_args(self, *arguments: Any, **how: Any) -> Any:
        """As `argparse` does, which would hand what is left over to the parser above, whose usage says nothing."""
        options, unknown = super().parse_known_args(*arguments, **how)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, do it, exit with 0, or print the error and exit with its code."""
    guard_output()
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except FipoError as error:
        print(f"fipo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("fipo: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(75)
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        if error.filename is None:
            raise
        print(f"fipo: {error.filename}: {error.strerror}: name another place", file=sys.stderr)
        sys.exit(WRONG_SETTINGS)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fipo", description=f"{fipo.__doc__}\n\n{FIRST}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"fipo {fipo.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for group in (pipeline, runs, models, study, hardware, settings):
        group.add_to(commands)
    return parser


if __name__ == "__main__":
    main()
