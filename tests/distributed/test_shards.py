"""ZeRO-3 takes each rank's part of the weights from their files: no rank holds the whole model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

WORKER = Path(__file__).with_name("shards_worker.py")


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A model of 32 MiB in bf16, all but some of it in sixteen matrices, and its size."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, tie_word_embeddings=True, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).bfloat16()
    folder = tmp_path_factory.mktemp("big")
    model.save_pretrained(folder)
    return folder, sum(one.numel() for one in model.parameters()) * 2 / 2**20


@pytest.mark.slow
def test_a_rank_holds_its_part_and_learns_the_same(big):
    folder, size = big
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(WORKER)]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [one[:2] for one in told] == [["stored", 0], ["stored", 1], ["whole", 0], ["whole", 1]]
    for _, rank, (loaded, parted), losses, written in told[:2]:
        assert losses == told[2 + rank][3], "the same weights, bit for bit"
        assert loaded < 0.7 * size, "what the probes of attention and head take, and no weights"
        # Of the process as the system counts it: what is freed meanwhile is taken again, and does not show.
        assert 0.25 * size < parted - loaded < 0.7 * size, "its half"
        assert written == pytest.approx(3 * 2 * size / 2, rel=0.02), "its half of weights and moments in float32"
