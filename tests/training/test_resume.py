"""Training that is killed or stopped continues to the same weights, bit for bit."""

import re
import signal
from collections import Counter

import psutil
import pytest

from fipo.tracking import read_journal


def until(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never printed")


def workers(process):
    """The training processes below the command: not torchrun, not the verifier's."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [
        child
        for child in children
        if "fipo.training.rl" in child.cmdline() and "fipo.launch.node" not in child.cmdline()
    ]


@pytest.mark.slow
def test_a_killed_worker_and_training_goes_on_by_itself(tiny_run, undisturbed):
    process = tiny_run.start("train", "--fresh")
    until(process, "[train] step 2/4")
    workers(process)[0].kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert re.search("from step [123]", output), output
    assert "another rank crashed" in output
    assert tiny_run.result("train").outputs["model"].sha256 == undisturbed
    [journal] = (tiny_run.folder / "tiny" / "train").glob("*/journal.jsonl")
    logged = Counter(step for step, metrics in read_journal(journal) if "rollout/accuracy" in metrics)
    assert logged == {1: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_continues(tiny_run, undisturbed):
    stopped = tiny_run.start("train", "--fresh")
    until(stopped, "[train] step 1/4")
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 75, output
    assert "run the same command again to continue" in output

    code, output = tiny_run("train")
    assert code == 0, output
    assert re.search("from step [123]", output), output
    assert tiny_run.result("train").outputs["model"].sha256 == undisturbed


@pytest.mark.slow
def test_a_finished_step_is_reused(tiny_run, undisturbed):
    code, output = tiny_run("train")
    assert code == 0
    assert "reused" in output


@pytest.mark.slow
def test_one_rank_trains_as_two_do(tiny_run, undisturbed):
    """The same responses, whichever rank samples them, and the same loss, however the rows are split."""
    [journal] = (tiny_run.folder / "tiny" / "train").glob("*/journal.jsonl")
    two = dict(losses(journal))
    code, output = tiny_run("train", "--fresh", "--set", "distributed.processes=1")
    assert code == 0, output
    assert "1 process(es)" in output
    one = dict(losses(journal))
    assert one.keys() == two.keys()
    for step, metrics in one.items():
        assert metrics == pytest.approx(two[step], rel=1e-4, abs=1e-6), step


def losses(journal):
    names = ("train/loss", "train/grad_norm", "train/entropy", "rollout/reward_mean", "rollout/response_tokens_mean")
    for step, metrics in read_journal(journal):
        if "train/loss" in metrics:
            yield step, {name: metrics[name] for name in names}
