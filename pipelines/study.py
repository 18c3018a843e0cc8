"""A study's file as parameters of the comparison's pipeline: the trials that `fipo study run` has on one machine."""

import json
import shlex
from pathlib import Path

from fipo.errors import ConfigError
from fipo.study.registration import register
from fipo.study.study import Trial, load_study


def parameters(path: Path, task: str = "") -> dict[str, str]:
    """Register the study and return the parameters of its pipeline; runs are named as the study's trials.

    Args:
        path: the study's file.
        task: which of its tasks; may be left out where it has one.

    Raises:
        ConfigError: the file is refused, or `task` names none of its tasks.
    """
    study = load_study(path)
    if (task or len(study.tasks) > 1) and task not in study.tasks:
        raise ConfigError(f"--task: a run has one task of study {path}, one of {', '.join(study.tasks)}; got {task!r}")
    name = task or next(iter(study.tasks))
    register(path)
    one = study.model_copy(update={"tasks": {name: study.tasks[name]}})
    arms = [study.baseline, *(arm for arm in study.arms if arm != study.baseline)]
    trials = [Trial(one, name, study.baseline, seed) for seed in study.seeds]
    return {
        "recipe": study.tasks[name].recipe,
        "arms": json.dumps([shlex.join([arm, *study.arms[arm]]) for arm in arms]),
        "warmups": json.dumps([shlex.join([trial.warmup, *trial.shared_settings]) for trial in trials]),
        "study": one.model_dump_json(),
    }
