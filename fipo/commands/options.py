"""Options that several commands share."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from pathlib import Path

from fipo.config import Config, load_config

Commands = argparse._SubParsersAction  # argparse names it nowhere else


def overrides(help: str) -> argparse.ArgumentParser:
    """`--set KEY=VALUE`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=help)
    return parser


SETS = overrides("replace a setting of the recipe, such as train.learning_rate=3e-6; may be repeated")
RECIPE = argparse.ArgumentParser(add_help=False, parents=[SETS])
RECIPE.add_argument("--recipe", default="demo", help="name of a shipped recipe, or a YAML file (default: demo)")


def read_config(options: argparse.Namespace) -> Config:
    """The settings that `RECIPE` names; functions that lie beside the recipe are found from here on."""
    config = load_config(options.recipe, options.overrides)
    if Path(options.recipe).is_file():  # functions of one's own lie beside it, for all that is started from here
        folder = str(Path(options.recipe).absolute().parent)
        places = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(places))
        sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    return config


def port(text: str) -> int:
    """A port, as a type of `argparse`."""
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port, 1 to 65535; got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A number of at least 1, as a type of `argparse`."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


def temperature(text: str) -> float:
    """A temperature of sampling, 0 or more, as a type of `argparse`."""
    with contextlib.suppress(ValueError):
        if 0.0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"must be a number of at least 0; got {text!r}")
