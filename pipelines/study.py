"""A study's file as parameters of its pipeline: the trials that `fipo study run` has on one machine."""

import json
import shlex
from pathlib import Path

from fipo.study.registration import register
from fipo.study.study import Trial, load_study


def parameters(path: Path) -> dict[str, str]:
    """Register the study and return the parameters of `fipo_study`; runs are named as the study's trials.

    Raises:
        ConfigError: the file is refused.
    """
    study = load_study(path)
    trials = list(study.trials())
    warmups = {trial.warmup: _run(trial, warmup=True) for trial in trials}
    register(path)
    return {
        "recipe": trials[0].study.tasks[trials[0].task].recipe,
        "study": study.model_dump_json(),
        "warmups": json.dumps(list(warmups.values())),
        "trials": json.dumps([{**_run(trial), "warmup": warmups[trial.warmup]["arm"]} for trial in trials]),
    }


def _run(trial: Trial, *, warmup: bool = False) -> dict[str, str]:
    """What `configure` is asked for."""
    name = trial.warmup if warmup else trial.name
    recipe = trial.study.tasks[trial.task].recipe
    return {"recipe": recipe, "arm": shlex.join([name, *trial.settings(warmup=warmup)])}
