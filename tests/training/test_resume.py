"""Training that is killed or stopped continues to the same weights, bit for bit."""

import json
import signal
from collections import Counter

import numpy as np
import psutil
import pytest

from fipo.run.run import Run
from fipo.tracking import read_journal


def first_worker(process):
    """Rank 0 below the command: not torchrun, not the verifier's processes."""
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = (child for child in children if child.environ().get("RANK") == "0")
    return worker


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_continues_and_goes_on_after_a_kill(tiny_run, undisturbed):
    stopped = tiny_run.start_held("step 1/4", "--fresh")
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=1500)
    assert stopped.returncode == 75, output
    assert "run the same command again to continue" in output

    process = tiny_run.start_held("step 2/4")
    assert "from step 1" in tiny_run.printed, tiny_run.printed
    first_worker(process).kill()
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output
    assert "from step 1" in output, "by itself: " + output
    assert "another rank crashed" in output
    assert tiny_run.result("train").outputs["model"].sha256 == undisturbed
    journal = tiny_run.journal()
    logged = Counter(step for step, metrics in read_journal(journal) if "rollout/accuracy" in metrics)
    assert logged == {1: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.slow
def test_a_finished_step_is_reused(tiny_run, undisturbed):
    code, output = tiny_run("train")
    assert code == 0
    assert "reused" in output


@pytest.mark.slow
def test_one_rank_trains_as_two_do(forked_run, undisturbed):
    """The same responses, whichever rank samples them, and the same loss, however the rows are split."""
    journal = forked_run.journal()
    two = dict(losses(journal))
    code, output = forked_run("train", "distributed.processes=1", fresh=True)
    assert code == 0, output
    assert "1 process(es)" in output
    one = dict(losses(journal))
    assert one.keys() == two.keys()
    for step, metrics in one.items():
        assert metrics == pytest.approx(two[step], rel=1e-4, abs=1e-6), step


@pytest.mark.slow
def test_every_response_is_kept_and_a_few_are_shown(tiny_run, undisturbed):
    """Whatever was killed and repeated before: an object a rank and step, with the step's weights and advantages."""
    objects, run = tiny_run.folder / "objects", Run(tiny_run.config)
    paths = sorted((objects / run.step("train").rollouts_prefix).iterdir())
    ranks = len(paths) // 4  # as many as the tests' worker has cores
    parts = [f".{part}-of-{ranks}" for part in range(ranks)] if ranks > 1 else [""]
    assert [path.name for path in paths] == [
        f"step-00000{step}{part}.parquet" for step in (1, 2, 3, 4) for part in parts
    ]
    versions = []
    for step in (1, 2, 3, 4):
        rows = run.rollout_records().whole(paths[0].parent.name, step).to_pylist()
        versions += [max(row["weight_version"] for row in rows)]
        groups = [rows[start : start + 8] for start in range(0, len(rows), 8)]
        for group in groups:
            assert len({row["prompt_id"] for row in group}) == 1
            rewards = np.array([row["reward"] for row in group])
            if group[0]["advantage"] is not None and rewards.std():
                expected = (rewards - rewards.mean()) / rewards.std(ddof=1)  # Eq. 1
                assert [row["advantage"] for row in group] == pytest.approx(expected, abs=1e-4)
        assert sum(row["advantage"] is not None for row in rows) == 4 * 8
        assert all(len(row["token_ids"]) == len(row["rollout_log_probs"]) for row in rows)
        assert all(0 > value > -20 for row in rows for value in row["rollout_log_probs"])
    assert versions == [0, 2, 4, 6]
    tables = [json.loads(path.read_text()) for path in (objects / "mlflow").rglob("rollouts.json")]
    assert any({row[0] for row in table["data"]} == {4} and "response" in table["columns"] for table in tables), tables


def losses(journal):
    names = ("train/loss", "train/grad_norm", "train/entropy", "rollout/reward_mean", "rollout/response_tokens_mean")
    for step, metrics in read_journal(journal):
        if "train/loss" in metrics:
            yield step, {name: metrics[name] for name in names}
