"""Metrics, parameters and artifacts of runs, in MLflow, through a journal that loses nothing."""

from fipo.tracking.client import RunIdentity
from fipo.tracking.journal import last_status, read_journal, read_said
from fipo.tracking.runs import (
    FinishedRun,
    finished_runs,
    link_pipeline_run,
    parent_run,
    reconcile,
    replay,
    replay_left,
)
from fipo.tracking.tracker import Tracker

__all__ = [
    "FinishedRun",
    "RunIdentity",
    "Tracker",
    "finished_runs",
    "last_status",
    "link_pipeline_run",
    "parent_run",
    "read_journal",
    "read_said",
    "reconcile",
    "replay",
    "replay_left",
]
