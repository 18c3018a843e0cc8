"""Sequence parallelism: neighbouring ranks share each packed row, split along its time axis (DeepSpeed Ulysses)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.batch import PackedTokens, TrainingBatch
from fipo.config import Distributed
from fipo.distributed.attention import packs, register_packed
from fipo.distributed.bootstrap import World
from fipo.distributed.packed_attention import packed_attention
from fipo.errors import ConfigError

_Batch = TypeVar("_Batch", PackedTokens, TrainingBatch)


class SequenceParallel:
    """Which rows a rank sees and which part of each; of size 1 it is plain data parallelism.

    DeepSpeed's engine is not told: gradients of shards add up over all ranks like those of rows, whatever the stage.
    """

    def __init__(self, distributed: Distributed, world: World) -> None:
        self.size = distributed.sequence_parallel
        if world.size % self.size:
            raise ConfigError(
                f"distributed.sequence_parallel: must divide the number of ranks ({world.size}); got {self.size}"
            )
        self.data_rank, self.rank = divmod(world.rank, self.size)
        self.data_ranks = world.size // self.size
        self.group: dist.ProcessGroup | None = None
        """The ranks that hold the shards of the same rows; None for size 1."""
        if self.size > 1:
            timeout = timedelta(seconds=distributed.timeout_seconds)
            ranks = [range(start, start + self.size) for start in range(0, world.size, self.size)]
            groups = [dist.new_group(list(each), timeout=timeout) for each in ranks]  # every rank makes every group
            self.group = groups[self.data_rank]

    def shard(self, batch: _Batch) -> _Batch:
        """This rank's part of packed rows whose length `size` divides."""
        return batch.shard(self.rank, self.size)

    def gather(self, shard: Tensor) -> Tensor:
        """[1, time] of the whole row from each rank's shard, on every rank of the group; without gradient."""
        if self.group is None:
            return shard
        parts = [torch.empty_like(shard) for _ in range(self.size)]
        dist.all_gather(parts, shard.contiguous(), group=self.group)
        return torch.cat(parts, dim=-1)

    def attach(self, model: PreTrainedModel) -> None:
        """Have attention exchange shards of time for shards of heads, attend, and exchange back.

        Raises:
            ConfigError: the heads of the model cannot be divided so.
        """
        if self.group is None:
            return
        heads, kv_heads = model.config.num_attention_heads, model.config.num_key_value_heads
        if heads % self.size or (kv_heads % self.size and self.size % kv_heads):
            raise ConfigError(
                f"distributed.sequence_parallel: must divide the model's {heads} attention heads, and divide its "
                f"{kv_heads} key/value heads or be a multiple of them; got {self.size}"
            )
        if not packs(model):
            raise ConfigError(
                f"distributed.sequence_parallel: must be 1 for {model.config.model_type}, whose attention knows no "
                f"packed rows; got {self.size}"
            )
        name = f"ulysses-{self.size}"
        register_packed(name, _ulysses(model, self.group))
        model.set_attn_implementation(name)


def _ulysses(model: PreTrainedModel, group: dist.ProcessGroup) -> Any:
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    config = model.config
    exchange = UlyssesSPAttentionHF(
        attn=packed_attention,
        batch_size=1,
        attn_head_count=config.num_attention_heads,
        attn_head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        kv_head_count=config.num_key_value_heads,
        num_hidden_layers=config.num_hidden_layers,
        process_group=group,
        seq_length_is_variable=True,
    )

    def attention(module: nn.Module, *arguments: Any, **kwargs: Any) -> tuple[Tensor, None]:
        if kwargs.get("cu_seq_lens_q") is None:  # generation: each rank for itself
            return packed_attention(module, *arguments, **kwargs)
        groups = module.num_key_value_groups
        output: tuple[Tensor, None] = exchange(module, *arguments, **kwargs)
        module.num_key_value_groups = groups  # it leaves the number of its own, repeated key/value heads
        return output

    return attention
