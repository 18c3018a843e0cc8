"""The warm-up and RL with an adapter, as the command line runs them."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fipo.records import Admission
from tests.training.conftest import TinyRun


def folder_of(run, step, output):
    found = run.result(step).outputs[output].uri
    return found.removeprefix("file://")


@pytest.mark.slow
def test_both_trainings_publish_a_model_and_its_adapter(tmp_path):
    """At ZeRO-3: the rollout engine has a copy, which gets merged weights after each update."""
    lora = ["model.lora={rank: 4, alpha: 8}", "distributed.processes=2", "distributed.zero_stage=3"]
    run = TinyRun(tmp_path, *lora, "sft.steps=20", "train.steps=2", "train.learning_rate=1e-2")
    for step in ("prepare", "sft", "train"):
        code, output = run(step)
        assert code == 0, output
    start = AutoModelForCausalLM.from_pretrained(folder_of(run, "sft", "model"))
    trained = AutoModelForCausalLM.from_pretrained(folder_of(run, "train", "model"))
    ids = torch.tensor([[3, 4, 5, 6, 7, 8]])
    with torch.no_grad():
        before, after = start(ids).logits, trained(ids).logits
        by_peft = PeftModel.from_pretrained(start, folder_of(run, "train", "adapter"))(ids).logits
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(by_peft, after, rtol=0, atol=1e-4)
    result = run.result("train")
    assert result.read(Admission).checks[-1].passed and result.metrics["train/mismatch_log_prob_gap_mean"] < 1e-4
    assert "adapter" in run.result("sft").outputs
