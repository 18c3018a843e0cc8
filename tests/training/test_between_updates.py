"""A step that is left between two of its updates goes on there, to the same weights, bit for bit."""

import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fipo.algorithm.measurement import COMMON, HIGHEST, LOWEST, SHARE, Measurement
from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.distributed.engine import StepOutcome
from fipo.outcome import Grade
from fipo.tracking import read_journal
from fipo.training.rl.metrics import Updates
from fipo.training.rl.sampling import RolloutBatch
from fipo.training.rl.unfinished import Unfinished

FOUR_UPDATES = ("train.steps=2", "train.mini_batch_prompts=1", "train.checkpoint_every=2")


def metrics_of(run):
    """Of each step, but for the times."""
    found: dict[int, dict[str, float]] = {}
    for step, metrics in read_journal(run.journal(*FOUR_UPDATES)):
        found.setdefault(step, {}).update(metrics)
    return [
        {name: value for name, value in found[step].items() if not name.startswith(("perf/", "checkpoint/", "system/"))}
        for step in (1, 2)
    ]


def learned_in(run):
    """Of each response of step 2, by prompt and place: the update that learned from it, and its influence weights."""
    lineage = run.journal(*FOUR_UPDATES).parent.name
    paths = (run.folder / "objects" / "tiny" / "train" / "rollouts" / lineage).glob("step-000002*.parquet")
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {
        (row["prompt_id"], row["draw"], row["response_index"]): (row["update"], row["influence_weights"])
        for row in rows
    }


@pytest.fixture(scope="module")
def whole(forked_run):
    """The weights, the metrics and the last step's record of training to which nothing happens."""
    code, output = forked_run("train", *FOUR_UPDATES, fresh=True)
    assert code == 0, output
    return forked_run.result("train").outputs["model"].sha256, metrics_of(forked_run), learned_in(forked_run)


@pytest.mark.slow
def test_a_stop_is_honoured_there(forked_run, whole):
    stopped = forked_run.start_held("step 2, update 2", *FOUR_UPDATES, fresh=True)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate()
    assert stopped.returncode == 75 and "stopped on request, saved up to step 2" in output, output
    assert "step 2/2" not in output, "the step was not finished"
    code, output = forked_run("train", *FOUR_UPDATES)
    assert code == 0 and "from step 1" in output, output
    assert (forked_run.result("train").outputs["model"].sha256, metrics_of(forked_run), learned_in(forked_run)) == whole
    assert {update for update, _ in whole[2].values()} >= {0, 1, 2, 3}


@pytest.mark.slow
def test_what_the_clock_saved_there_outlives_a_kill_and_another_number_of_ranks(forked_run, whole):
    job = forked_run.start_held("step 1, update 3", *FOUR_UPDATES, "train.checkpoint_minutes=1e-6", fresh=True)
    job.send_signal(signal.SIGKILL)  # and with it the ranks, on which nothing is saved but what the clock has made them
    job.communicate()
    code, output = forked_run("train", *FOUR_UPDATES, "distributed.processes=1")
    assert code == 0 and "from step 0" in output, output
    for one, other in zip(metrics_of(forked_run), whole[1], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
        assert one["train/updates"] == 4.0


def measured(*values):
    kinds = {"share": SHARE, "low": LOWEST, "high": HIGHEST, "common": COMMON}
    return {
        name: Measurement(torch.tensor(value), kind) for (name, kind), value in zip(kinds.items(), values, strict=True)
    }


def updates_of(rank):
    updates = Updates()
    for update in (1.0, 2.0):
        updates.measured(measured(update + rank, -update - rank, update * rank, 0.1))
        updates.ended(StepOutcome(skipped=update == 2.0, grad_norm=0.5))
    return updates


BATCH = RolloutBatch(
    sampled=[
        RolloutGroup(
            Prompt("a", "2+3", (5, 6), "5", columns='{"k": 1}', room=7),
            (
                Rollout(np.array([1, 2], np.int32), np.array([-0.1, -0.3], np.float32), FinishReason.STOP, 3),
                Rollout(
                    np.array([3, 4, 9], np.int32), np.array([-0.7, 0.0, -2.0], np.float32), FinishReason.LENGTH, 4,
                    np.array([True, False, True]), Grade(Outcome.CORRECT, "5", 0.5, "why"),
                ),
            ),
            (Score(Outcome.CORRECT, 1.0, 0.9, {"accuracy": 1.0}, "so", "5"), Score(Outcome.TIMEOUT, 0.0, 0.0)),
            (1 / 3, None),
        ),
        RolloutGroup(
            Prompt("b", "1", (5,), "1"),
            (Rollout(np.array([2], np.int32), np.array([-1.0], np.float32), FinishReason.STOP, 3),),
            (Score(Outcome.WRONG, 0.0, 0.0),),
        ),
    ],
    kept=[0], rounds=2, prompts_drawn=9,
)  # fmt: skip


def test_everything_of_the_batch_is_kept():
    old = {"1/0": torch.tensor([0.1, 0.2])}
    shares = [Unfinished(BATCH, updates_of(rank), old if rank else {}).tensors(is_main=not rank) for rank in (0, 1)]
    found = Unfinished.read(shares, rank=0, ranks=2)
    assert found.old_policy is not None
    assert torch.equal(found.old_policy["1/0"], old["1/0"])
    assert (found.batch.kept, found.batch.rounds, found.batch.prompts_drawn) == ([0], 2, 9)
    for one, other in zip(found.batch.sampled, BATCH.sampled, strict=True):
        assert (one.prompt, one.scores, one.advantages) == (other.prompt, other.scores, other.advantages)
        for mine, kept in zip(one.rollouts, other.rollouts, strict=True):
            assert mine.token_ids.tolist() == kept.token_ids.tolist()
            assert mine.log_probs.tobytes() == kept.log_probs.tobytes()
            assert mine.own.tolist() == kept.own.tolist()
            assert (mine.response_mask is None) == (kept.response_mask is None)
            assert (mine.finish_reason, mine.weight_version) == (kept.finish_reason, kept.weight_version)
            assert mine.grade == kept.grade


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_the_loss_saw_before_is_kept_once_over_any_number_of_ranks(ranks):
    def trace(update, tokens):
        return TokenTrace(update, *np.random.default_rng(tokens).random((5, tokens)).astype(np.float16))

    own = [{("a", 0, 1): trace(0, 2), ("b", 1, 0): trace(1, 5)}, {("c", 0, 0): trace(1, 1)}]
    shares = [Unfinished(BATCH, updates_of(r), {}, own[r]).tensors(is_main=not r) for r in (0, 1)]
    assert Unfinished(BATCH).tensors(is_main=True)["traces"].shape == (5, 0)
    found = [Unfinished.read(shares, rank, ranks).traces for rank in range(ranks)]
    if ranks == 2:
        assert [[*one] for one in found] == [[*one] for one in own]
    assert sum(map(len, found)) == 3
    for key, one in (own[0] | own[1]).items():
        [again] = [traces[key] for traces in found if key in traces]
        for name in ("update", "influence_weights", "future_kl", "log_ratio", "entropy", "mismatch"):
            np.testing.assert_array_equal(getattr(again, name), getattr(one, name))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_updates_measured_adds_up_over_any_number_of_ranks(ranks):
    """Of two ranks: 1 + 2 in sum, at least -2, at most 1, and 0.1 of the update as a whole."""
    told = [updates_of(rank).as_json() for rank in (0, 1)]
    found = [Updates.from_json(told, rank, ranks) for rank in range(ranks)]
    assert {(one.taken, one.done) for one in found} == {(1, 2)}
    values = [{name: float(part.value) for name, part in one._taken[0].items()} for one in found]
    assert sum(one["share"] for one in values) == 3.0
    assert min(one["low"] for one in values) == -2.0
    assert max(one["high"] for one in values) == 1.0
    assert all(one["common"] == pytest.approx(0.1) for one in values)
    assert {one["grad_norm"] for one in values} == {0.5}
