"""A step of a trial in a process forked from one that has imported everything."""

import os
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.run.run import Run
from fipo.study import worker

pytestmark = pytest.mark.slow
TINY = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"


def test_steps_run_one_after_another_and_errors_go_to_the_log(tmp_path):
    config = load_config(str(TINY), [f"run.directory={tmp_path}"])
    cores, log = set(list(os.sched_getaffinity(0))[:1]), tmp_path / "trial.log"
    assert worker.run("sft", config, cores, log) == ConfigError.exit_code
    assert "needs the result of 'prepare'" in log.read_text()
    for step in ("prepare", "sft"):
        assert worker.run(step, config, cores, log) == 0, log.read_text()
    first = Run(config).step("sft").result()
    assert first.outputs["model"].sha256
    assert worker.run("sft", config, cores, log) == 0
    assert Run(config).step("sft").result() == first
