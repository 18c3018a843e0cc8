"""A step of a trial in a process forked from one that has imported everything."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError, Interrupted
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


def test_what_runs_is_asked_to_stop_and_saves(tmp_path):
    """As after `kill -INT` of the study alone, which does not reach what it started."""
    config = load_config(str(TINY), [f"run.directory={tmp_path}", "sft.steps=1000000"])
    cores, log = set(list(os.sched_getaffinity(0))[:1]), tmp_path / "trial.log"
    assert worker.run("prepare", config, cores, log) == 0, log.read_text()
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(worker.run, "sft", config, cores, log)
        while "loss" not in log.read_text():
            assert not code.done(), log.read_text()
            time.sleep(0.05)
        worker.stop()
    assert code.result() == Interrupted.exit_code, log.read_text()
    assert "saved up to step" in log.read_text()
