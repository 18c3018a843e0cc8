"""`fipo train --continue`: which checkpoint it goes on from under other settings, and what it keeps of that."""

import json

import pytest

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.run.continuation import continued_in, continuing
from fipo.run.result import Output, StepResult
from fipo.run.run import Run
from tests.finished import finish


@pytest.fixture
def step(tmp_path):
    """The step `train` of a run whose earlier steps have finished, under some settings."""

    def of(*overrides: str):
        config = load_config("demo", [f"run.directory={tmp_path}", *overrides])
        if not Run(config).result("prepare"):
            parts = {"problems": "p", "demonstrations": "d"}
            finish(config, "prepare", {"dataset": Output("file:///data", "a" * 64, parts)})
            finish(config, "sft", {"model": Output("file:///model", "b" * 64)})
        return Run(config).step("train")

    return of


def worked(workspace, at: int, state: str = "x") -> None:
    """What a training that was stopped leaves."""
    workspace.identity.write(workspace.directory / "identity.json")
    workspace.of_run.write_settings(workspace.directory)
    checkpoint = workspace.directory / "checkpoints" / f"step-{at:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "rank-00000.safetensors").write_text(state)
    (checkpoint / "COMMIT.json").write_text(json.dumps({"step": at}))
    (workspace.directory / "journal.jsonl").write_text('{"kind":"metrics","step":1,"values":{}}\n')


def test_other_settings_go_on_from_the_newest_checkpoint_and_say_so(step, capsys):
    before = step()
    worked(before, at=4, state="weights")
    plain = step("train.learning_rate=1e-5", "rollout.group_size=4")
    after = continuing(plain)
    assert after.fingerprint not in (before.fingerprint, plain.fingerprint), "it is no training of these settings alone"
    assert after.directory not in (before.directory, plain.directory)
    shard = after.directory / "checkpoints" / "step-00000004" / "rank-00000.safetensors"
    assert shard.read_text() == "weights" and shard.stat().st_nlink == 2, "a link, and no copy"
    assert (after.directory / "journal.offset").read_text() == str((after.directory / "journal.jsonl").stat().st_size)
    [link] = continued_in(after.directory)
    assert link.after_step == 4 and set(link.changed) == {"train.learning_rate", "rollout.group_size"}
    said = capsys.readouterr().out
    assert "continues from step 4" in said and "rollout.group_size: 8 -> 4" in said


def test_what_was_continued_is_continued_again_and_changes_add_up(step):
    worked(step(), at=4)
    first = continuing(step("train.learning_rate=1e-5"))
    worked(first, at=6)
    again = continuing(step("train.learning_rate=1e-5"))
    assert (again.fingerprint, again.directory) == (first.fingerprint, first.directory)
    longer = continuing(step("train.learning_rate=1e-5", "train.steps=99"))
    assert longer.directory == first.directory and longer.fingerprint != first.fingerprint
    third = continuing(step("train.learning_rate=1e-5", "reward.functions={accuracy: 1.0}"))
    assert [one.after_step for one in continued_in(third.directory)] == [4, 6]


def test_the_same_settings_are_not_another_training(step):
    worked(step(), at=4)
    assert continuing(step()).fingerprint == step().fingerprint
    assert continuing(step("train.steps=99")).directory == step().directory


def test_other_data_begin_anew(step, tmp_path):
    """A prompt that is asked in another way: what was learned answers another question."""
    worked(step(), at=4)
    other = load_config("demo", [f"run.directory={tmp_path}", "data.prompt_template=Think. {prompt}"])
    finish(other, "prepare", {"dataset": Output("file:///data", "a" * 64, {"problems": "p", "demonstrations": "d"})})
    finish(other, "sft", {"model": Output("file:///model", "b" * 64)})
    with pytest.raises(ConfigError, match=r"data.prompt_template has changed since .*; run it without"):
        continuing(Run(other).step("train"))


def test_without_a_checkpoint_there_is_nothing_to_continue(step):
    with pytest.raises(ConfigError, match="has no checkpoint; run it without"):
        continuing(step())


def test_a_finished_continuation_is_the_result_of_the_run(step):
    worked(step(), at=4)
    after = continuing(step("train.learning_rate=1e-5"))
    changes = [str(one) for one in continued_in(after.directory)]
    config = after.config
    assert Run(config).step("train").finished() is None
    own = after.identity
    settings, inputs = own.settings, dict(own.inputs)
    after.commit(StepResult("train", after.fingerprint, 1.0, settings=settings, inputs=inputs, continued=changes))
    found = Run(config).step("train").finished()
    assert found and found.continued == changes
    assert step("train.learning_rate=2e-5").finished() is None
