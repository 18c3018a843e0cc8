"""What DeepSpeed is told, as DeepSpeed itself reads it."""

import pytest
import torch

from fipo.config import Distributed, Optimizer
from fipo.distributed.bootstrap import import_deepspeed
from fipo.distributed.zero import zero_settings


def read(stage, trained=10_000_000_000):
    import_deepspeed()
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    settings = zero_settings(Optimizer(), Distributed(zero_stage=stage), torch.bfloat16, trained=trained)
    return DeepSpeedZeroConfig(**settings["zero_optimization"])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_communication_overlaps_with_the_passes_where_weights_are_in_parts(stage):
    assert read(stage).overlap_comm is (stage == 3)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_bucket_is_no_larger_than_what_is_trained(stage):
    assert read(stage, trained=40_000_000).reduce_bucket_size == 40_000_000, "an adapter's gradients: 160 MB, not 2 GB"
    assert read(stage).reduce_bucket_size == 500_000_000
