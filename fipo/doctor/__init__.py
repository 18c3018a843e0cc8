"""What works on this machine, before money is spent: `fipo doctor`. What it has not got is said, and is no fault."""

from __future__ import annotations

from fipo.check import Check, check
from fipo.config import Config
from fipo.errors import FipoError
from fipo.findings import Finding

CHECKS = (
    Check("devices", "fipo.doctor.machine:devices"),
    Check("compiler", "fipo.doctor.machine:compiler"),
    Check("packages", "fipo.doctor.machine:packages"),
    Check("disk", "fipo.doctor.machine:disk"),
    Check("kernels", "fipo.doctor.workers:kernels"),
    Check("ranks", "fipo.doctor.workers:ranks"),
    Check("model", "fipo.doctor.workers:model"),
    Check("store", "fipo.check.places:store"),
    Check("MLflow", "fipo.check.places:mlflow"),
)
"""In this order. What could crash or hang is tried in processes of its own (`workers`)."""


def examine(config: Config) -> tuple[list[Finding], FipoError | None]:
    """What every check finds on this machine for the recipe, and the first error; within about a minute."""
    return check(config, CHECKS)
