"""Train reasoning models with FIPO (arXiv 2603.19835), as a pipeline to run, schedule, compare and trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fipo.algorithm.future_kl import future_kl
    from fipo.algorithm.loss import fipo_loss
    from fipo.algorithm.options import LossOptions
    from fipo.config import load_config
    from fipo.run.run import Run

__version__ = "0.2.0"

_PLACES = {
    "LossOptions": "fipo.algorithm.options",
    "Run": "fipo.run.run",
    "fipo_loss": "fipo.algorithm.loss",
    "future_kl": "fipo.algorithm.future_kl",
    "load_config": "fipo.config",
}
__all__ = ["LossOptions", "Run", "fipo_loss", "future_kl", "load_config"]


def __getattr__(name: str) -> Any:
    """The names for notebooks and other programs, each imported when it is asked for: `import fipo` costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module 'fipo' has no attribute {name!r}")
    from importlib import import_module

    try:
        found = getattr(import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        message = f"fipo.{name} needs {error.name}, which is not installed here: pip install 'fipo[train]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    globals()[name] = found
    return found
