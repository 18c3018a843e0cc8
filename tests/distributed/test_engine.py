"""The engine and its checkpoints on real ranks: gloo, DeepSpeed."""

from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("stages_worker.py")


ADAPTERS = Path(__file__).with_name("lora_worker.py")


@pytest.fixture
def run(warm):
    def run(ranks, *arguments, worker=WORKER):
        code, printed = warm.run(worker, *arguments, ranks=ranks)
        assert code == 0, printed
        return printed

    return run


@pytest.mark.slow
def test_every_stage_equals_plain_adamw_and_resumes_bit_for_bit(run, tmp_path):
    """On four ranks; then two, at another stage, continue from the same checkpoint to the same losses."""
    written = run(4, tmp_path, "write")
    assert [line for line in written.splitlines() if line.endswith("write ok")] == [
        f"stage {stage} on 4 rank(s): write ok" for stage in (0, 1, 2, 3)
    ]
    assert run(2, tmp_path, "read").count("read ok") == 4


@pytest.mark.slow
def test_an_adapter_trains_as_pefts_at_every_stage_and_resumes_bit_for_bit(run, tmp_path):
    assert run(2, tmp_path, worker=ADAPTERS).count("adapter ok") == 4
