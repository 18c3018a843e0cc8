"""A small run whose responses have turns: what is recorded of it, and that it goes on where it stopped."""

import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from fipo.run.run import Run
from fipo.tracking import read_journal
from tests.training.conftest import ForkedRun, TinyRun

GAME = [
    "data.train=[{generator: {digits: 3, seed: 1}, limit: 60, environment: guess}]",
    "data.benchmarks={sums: {generator: {digits: 3, seed: 3}, limit: 8, environment: guess}}",
    "model.architecture.vocabulary=['0','1','2','3','4',Add,modulo,'5',':','\\boxed{','}',higher,lower,number,'?']",
    "rollout.max_response_tokens=24",
    "rollout.max_turns=4",
    "sft.steps=0",
    "train.steps=2",
    "distributed.processes=1",
]


@pytest.fixture(scope="module")
def game(warm, tmp_path_factory):
    game = ForkedRun(warm, TinyRun(tmp_path_factory.mktemp("game"), *GAME))
    game.all_steps()
    return game


def recorded(run):
    folder = run.folder / "objects" / Run(run.config).step("train").rollouts_prefix
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


def same(rows, others):
    """What no loss has seen is NaN in both."""
    return [*map(repr, rows)] == [*map(repr, others)]


@pytest.mark.slow
def test_responses_have_turns_and_the_games_verdict(game):
    rows = recorded(game)
    tokens = {word: index + 2 for index, word in enumerate(game.config.model.architecture.vocabulary)}
    turns = []
    for row in rows:
        mask = np.array(row["response_mask"] or [True] * len(row["token_ids"]))
        ids, log_probs = np.array(row["token_ids"]), np.array(row["rollout_log_probs"])
        assert (log_probs[mask] < 0).all() and not log_probs[~mask].any() and mask[0] and mask[-1]
        assert {*ids[~mask]} <= {tokens[word] for word in ("higher", "lower", "number", "?")}
        turns.append(1 + int((mask[1:] & ~mask[:-1]).sum()))
        found = row["outcome"] == "correct"
        assert row["explanation"].startswith("found by guess" if found else "not found in") and row["accuracy"] == found
        assert (row["finish_reason"] == "stop") == found, "who has not found it is stopped by a limit"
    assert max(turns) > 1 and {row["environment"] for row in rows} == {"guess"}
    logged = [metrics for _, metrics in read_journal(game.journal()) if "rollout/turns_mean" in metrics]
    assert len(logged) == 2 and all(metrics["rollout/observation_tokens_mean"] > 0 for metrics in logged)
    own = [(row["step"], sum(row["response_mask"] or [True] * len(row["token_ids"]))) for row in rows]
    sampled = [sum(tokens for at, tokens in own if at == step) for step in (1, 2)]
    assert [metrics["rollout/sampled_tokens"] for metrics in logged] == sampled


@pytest.mark.slow
def test_a_stopped_run_has_the_same_turns(game):
    weights, before = game.result("train").outputs["model"].sha256, recorded(game)
    stopped = game.start_held("step 1/2", fresh=True)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate()
    assert stopped.returncode == 75, output
    code, output = game("train")
    assert code == 0 and "from step 1" in output, output
    assert game.result("train").outputs["model"].sha256 == weights and same(recorded(game), before)


@pytest.mark.slow
def test_an_environment_that_cannot_be_is_refused_by_name(game):
    name = "tests.environments.talkers:NoStep"
    source = f"[{{generator: {{digits: 3, seed: 1}}, limit: 60, environment: '{name}'}}]"
    code, output = game.run("prepare", "--set", f"data.train={source}")
    assert code == 2 and f"data.train[0].environment: environment '{name}' must be a class with" in output, output
