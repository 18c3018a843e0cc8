"""Environments by name: those that are built in, and `package.module:Class`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from fipo.environments.guess import Guess
from fipo.environments.protocol import Environment
from fipo.environments.python import PythonTool
from fipo.errors import ConfigError
from fipo.rewards.sandbox.client import Program, Ran

Run = Callable[[Program], Ran]
"""Runs a program in a sandbox."""

BUILTIN: Mapping[str, Callable[[Run], Environment]] = {"python": PythonTool, "guess": lambda run: Guess()}


def find(name: str) -> Callable[[Run], Environment]:
    """What makes the environment of that name.

    Raises:
        ConfigError: there is none, or what is there is no class with the methods of an environment.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except Exception as error:  # its own code runs
        raise ConfigError(f"environment {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    missing = [method for method in ("reset", "step", "grade") if not callable(getattr(kind, method, None))]
    if missing or not callable(kind):
        raise ConfigError(
            f"environment {name!r} must be a class with the methods reset, step, grade; it has no "
            f"{' and no '.join(missing) or 'constructor'}"
        )
    return lambda run: kind()
