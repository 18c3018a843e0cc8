"""Two ranks hold half of the time axis each and must find what one rank finds. Run by itself this file is a rank."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fipo.algorithm.future_kl import future_kl
from fipo.algorithm.loss import policy_loss
from fipo.algorithm.options import LossOptions

RANKS, TIME = 2, 120
SETTINGS = [
    LossOptions(),
    LossOptions(dual_clip=1.5, drop_dual_clipped_responses=True),
    LossOptions(loss="grpo"),
    LossOptions(loss="gspo", clip_low=0.01, clip_high=0.01),
    LossOptions(correction="truncate", correction_level="sequence", correction_threshold=1.01),
    LossOptions(placebo="mean"),
    LossOptions(placebo="sign"),
]


def case() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(3, TIME, generator=generator)
    log_probs = (old + 0.3 * torch.randn(3, TIME, generator=generator)).requires_grad_()
    rollout = old + 0.1 * torch.randn(3, TIME, generator=generator)
    position = torch.arange(TIME)
    mask = (position >= 5) & (position < torch.tensor([[TIME], [70], [40]]))  # the last ends on the first rank
    return log_probs, old, torch.tensor([[1.0], [-1.0], [2.0]]).expand(3, TIME), mask, rollout


def worker(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    group = dist.group.WORLD
    log_probs, old, advantages, mask, rollout = case()
    shard = slice(rank * TIME // RANKS, (rank + 1) * TIME // RANKS)
    counts: dict[str, Any] = {"num_loss_tokens": int(mask.sum()), "num_loss_responses": 3}
    packed = (torch.arange(TIME) >= 50).long().expand(3, TIME)
    for options, ids in [*((options, None) for options in SETTINGS), *((options, packed) for options in SETTINGS)]:
        whole = policy_loss(
            options, log_probs, old, advantages, mask, rollout_log_probs=rollout, segment_ids=ids, **counts
        )
        (expected,) = torch.autograd.grad(whole.loss, log_probs)
        part = policy_loss(
            options,
            *(x[:, shard] for x in (log_probs, old, advantages, mask)),
            rollout_log_probs=rollout[:, shard],
            segment_ids=None if ids is None else ids[:, shard],
            sequence_group=group,
            **counts,
        )
        (actual,) = torch.autograd.grad(part.loss, log_probs)
        for name, value, target in (
            ("loss", part.loss.detach(), whole.loss.detach()),
            ("gradient", actual, expected),
            *((name, part.metrics[name], value) for name, value in whole.metrics.items()),
        ):
            how = dist.ReduceOp.MIN if name.endswith("_min") else dist.ReduceOp.MAX
            value = value.clone()
            dist.all_reduce(value, op=how if name.endswith(("_min", "_max")) else dist.ReduceOp.SUM)
            torch.testing.assert_close(value, target, rtol=1e-5, atol=1e-6, msg=f"{name} with {options}")

    log_ratio = (log_probs - old).detach()
    for boundary in (50, 60, 70):  # packed rows: a response ends before, at and after the ranks' boundary
        ids = (torch.arange(TIME) >= boundary).long().expand(3, TIME)
        whole_kl = future_kl(log_ratio, mask, half_life=32.0, segment_ids=ids)
        part_kl = future_kl(
            log_ratio[:, shard], mask[:, shard], half_life=32.0, segment_ids=ids[:, shard], sequence_group=group
        )
        torch.testing.assert_close(part_kl, whole_kl[:, shard], rtol=1e-6, atol=1e-6)

    for start, end in ((20, 40), (50, 70), (40, 119), (0, 60)):  # an observation before, across, from and up to it
        own = mask & ~((torch.arange(TIME) >= start) & (torch.arange(TIME) < end))
        whole_kl = future_kl(log_ratio, own, half_life=32.0, segment_ids=packed, own_tokens=own)
        part_kl = future_kl(
            *(x[:, shard] for x in (log_ratio, own)),
            half_life=32.0,
            segment_ids=packed[:, shard],
            sequence_group=group,
            own_tokens=own[:, shard],
        )
        torch.testing.assert_close(part_kl, whole_kl[:, shard], rtol=1e-6, atol=1e-6)
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE)
        for rank in range(RANKS)
    ]
    outputs = [rank.communicate(timeout=600) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * RANKS, b"\n".join(err for _, err in outputs).decode()


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
