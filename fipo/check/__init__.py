"""What can be refused before anything runs, in one list: `fipo check`, `configure` and every step go through it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from fipo.check.look import Look, Skipped
from fipo.config import Config
from fipo.errors import FipoError
from fipo.findings import Finding


@dataclass(frozen=True, slots=True)
class Check:
    """One of the list."""

    name: str
    function: str
    """`module:function`, of a `Look`: a step imports what it is checked by, and no more. It yields what it finds, and
    raises a FipoError for what would be refused later, or `Skipped`."""
    steps: frozenset[str] = frozenset()
    """The steps that do not begin where it refuses."""

    def findings(self, look: Look) -> Iterator[Finding]:
        """What it finds."""
        module, _, name = self.function.partition(":")
        function: Callable[[Look], Iterator[Finding]] = getattr(import_module(module), name)
        yield from function(look)


CHECKS = (
    Check("graders", "fipo.check.rewards:graders", frozenset({"prepare"})),
    Check("data", "fipo.check.data:sources", frozenset({"prepare"})),
    Check("environments", "fipo.check.rewards:environments", frozenset({"prepare"})),
    Check("tokenizer", "fipo.check.model:tokenizer", frozenset({"prepare"})),
    Check("one row", "fipo.check.model:one_row", frozenset({"prepare"})),
    Check("model", "fipo.check.model:weights", frozenset({"sft"})),
    Check("engine", "fipo.check.places:engine", frozenset({"train"})),
    Check("reward functions", "fipo.check.rewards:functions", frozenset({"train"})),
    Check("one reward", "fipo.check.rewards:one_reward"),
    Check("tracking", "fipo.check.places:also", frozenset({"prepare", "sft", "train"})),
    Check("store", "fipo.check.places:store"),
    Check("MLflow", "fipo.check.places:mlflow"),
)


def check(config: Config, checks: Iterable[Check] = CHECKS) -> tuple[list[Finding], FipoError | None]:
    """What every check finds, and the first error that would end the run; None where none would."""
    findings: list[Finding] = []
    first: FipoError | None = None
    with Look(config) as look:
        for one in checks:
            try:
                findings += one.findings(look)
            except FipoError as error:
                first = first or error
                findings.append(Finding(one.name, "failed", str(error)))
            except Skipped as skipped:
                findings.append(Finding(one.name, "warning", f"not looked at: {skipped}"))
    return findings, first


def require(config: Config, steps: Collection[str], *, download: bool = False) -> None:
    """Let the steps begin, or refuse them.

    Args:
        config: of the run.
        steps: those that are to be done.
        download: look at the rows of data sets that are not on this machine yet, too.

    Raises:
        ConfigError: a setting is wrong: a column, a grader, a reward function, the model.
        DataError: data are not there, or not one of their first rows can be used.
        StorageError: the object store that data are in refused.
    """
    with Look(config, download=download) as look:
        for one in CHECKS:
            if one.steps.intersection(steps):
                for finding in one.findings(look):
                    if finding.status == "warning":
                        print(f"[check] {finding.check}: {finding.found}", flush=True)
