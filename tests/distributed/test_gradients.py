"""ZeRO stages, offload, precision, checkpointing, packing and sequence parallelism against one plain process."""

from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("gradients_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "cases"), [(1, 5), (2, 21), (4, 10)])
def test_every_setting_makes_the_same_updates_as_one_plain_process(warm, ranks, cases):
    code, printed = warm.run(WORKER, ranks=ranks, OMP_NUM_THREADS="1")
    assert code == 0, printed
    assert printed.count("ok ") == cases, printed
