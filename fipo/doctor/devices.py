"""The doctor on the devices that a run asks for, before the run begins there: the first task of pipelines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fipo.config import Config
from fipo.findings import Finding
from fipo.launch.job import asks_for_gpus, run_job
from fipo.run.run import Run
from fipo.run.step import STEPS

STEP = "doctor"


def report_path(config: Config) -> Path:
    """What the job has found, a list of findings as JSON."""
    return config.run_directory / "doctor.json"


def examine_devices(config: Config, todo: Sequence[str], task: Mapping[str, Any]) -> list[Finding]:
    """Look at every machine and all ranks together, by a job like those that train; about a minute.

    Args:
        config: of the run.
        todo: the steps that it still has to do.
        task: what the pipeline set on its task, for the pods of a TrainJob.

    Returns:
        What was found; nothing where no step is left that runs on GPUs.

    Raises:
        LaunchError: something is wrong; what it is stands on the output, with its table.
        ConfigError, Interrupted: see `run_job`.
    """
    if not any(STEPS[step].job for step in todo if step in STEPS) or not asks_for_gpus(config, STEP):
        return []
    run = Run(config)
    settings, path = run.write_settings(), report_path(config)
    path.unlink(missing_ok=True)
    once = {"distributed": config.distributed.model_copy(update={"max_restarts": 0})}
    fingerprint = hashlib.sha256(settings.read_bytes()).hexdigest()
    arguments, placed = ["--config", str(settings), "--gpus"], config.model_copy(update=once)
    run_job("fipo.doctor.job", arguments, placed, step=STEP, fingerprint=fingerprint, task=task)
    return [Finding(**one) for one in json.loads(path.read_text(encoding="utf-8"))]


def page(findings: Sequence[Finding]) -> str:
    """As Markdown."""
    if not findings:
        return "# Devices\n\nNo step that is left asks for GPUs: nothing was looked at.\n"
    lines = ["# Devices", "", "| check | | found |", "|---|---|---|"]
    for one in findings:
        cells = (one.check, one.status, one.found + (f"; {one.remedy}" if one.remedy else ""))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])
