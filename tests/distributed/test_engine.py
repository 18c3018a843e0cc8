"""The engine and its checkpoints on real ranks: torchrun, gloo, DeepSpeed."""

import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("stages_worker.py")


def run(ranks, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run([*command, str(WORKER), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_stage_equals_plain_adamw_and_resumes_bit_for_bit(ranks, tmp_path):
    """Then the other number of ranks, at another stage, continues from the same checkpoint to the same losses."""
    written = run(ranks, tmp_path, "write")
    assert [line for line in written.splitlines() if line.endswith("write ok")] == [
        f"stage {stage} on {ranks} rank(s): write ok" for stage in (1, 2, 3)
    ]
    assert run(3 - ranks, tmp_path, "read").count("read ok") == 3
