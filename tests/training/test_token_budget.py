"""Training until so many tokens have been sampled, for comparisons at equal cost."""

import pytest


@pytest.mark.slow
def test_training_ends_with_the_step_that_spends_the_budget(forked_run):
    alone = ("distributed.processes=1", "train.learning_rate=2e-6")
    code, output = forked_run("train", *alone, "train.token_budget=1")
    assert code == 0, output
    assert "step 1/4" in output
    assert "step 2/4" not in output
    assert "validation/accuracy" in forked_run.result("train").metrics
    tokens = forked_run.result("train").metrics["rollout/sampled_tokens"]

    # A larger budget continues from there; the tokens of the first step count.
    code, output = forked_run("train", *alone, f"train.token_budget={int(tokens) + 1}")
    assert code == 0, output
    assert "from step 1" in output
    assert "step 2/4" in output
    assert "step 3/4" not in output
