"""The report of a run."""

from fipo_kfp.components.report.component import report

__all__ = ["report"]
