"""Rollouts by vLLM in the trainer's own processes: it sleeps while training needs the memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.errors import ConfigError, RolloutError
from fipo.rollout.engine import (
    OnGroup,
    OnResponses,
    RolloutEngine,
    Sampling,
    Weights,
    check_prompts,
    ids_that_stop,
)
from fipo.rollout.parts import dealt
from fipo.rollout.requests import distinct_responses, repeated, sampling_params
from fipo.rollout.weights import checked, expected_of

if TYPE_CHECKING:
    from vllm import RequestOutput


FLOAT32_HEAD = {"head_dtype": "float32"}
"""As the trainer's: logits that are rounded to bfloat16 are some 0.01 nats off."""


class VllmEngine(RolloutEngine):
    """vLLM beside the trainer on the same devices (colocated): continuous batching, prefix caching, paged memory.

    Under torchrun, `tensor_parallel` neighbouring ranks share one copy of the model and generate for each other; all of
    them must call each method together. Of the prompts that all ranks have, each copy takes one more whenever it has
    room for its responses.

    Args:
        model: a name of the hub or a folder, of which the architecture counts; weights come through `load_weights`.
        eos_token_id: the token, or tokens, that end a response.
        context: tokens of prompt and response at most.
        dtype: `float32`, `bfloat16`.
        tensor_parallel: ranks that share one copy of the model.
        gpu_memory_fraction: share of a GPU's memory for weights and cache while generating.

    Raises:
        ConfigError: `tensor_parallel` does not divide the ranks of a node.
    """

    refills = True

    def __init__(
        self,
        model: str,
        *,
        eos_token_id: int | Collection[int],
        context: int,
        dtype: str,
        tensor_parallel: int = 1,
        gpu_memory_fraction: float = 0.5,
    ) -> None:
        # In this process, so that weights are handed over as tensors; vLLM reads its settings from the environment.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # It warns of what is asked for on purpose, such as layers that have no weights in a reload.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        _check_ranks(tensor_parallel)
        from vllm import LLM

        self.stop_ids = ids_that_stop(eos_token_id)
        self._context, self.ranks_together = context, tensor_parallel
        self._gpu, self._in_group = torch.cuda.is_available(), dist.is_initialized()
        self._llm: Any = LLM(
            model,
            load_format="dummy",
            skip_tokenizer_init=True,
            dtype=dtype,
            max_model_len=context,
            tensor_parallel_size=tensor_parallel,
            distributed_executor_backend="external_launcher" if self._in_group else "uni",
            gpu_memory_utilization=gpu_memory_fraction,
            enable_sleep_mode=self._gpu,
            enforce_eager=not self._gpu,
            # With chunks, seeded requests fail on a CPU: its random generators cannot be wound back.
            enable_chunked_prefill=self._gpu,
            max_num_batched_tokens=max(context, 8192),
            # vLLM's default is the unscaled distribution, which is not what was sampled from.
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            hf_overrides=FLOAT32_HEAD,
            # The stop tokens are ours, and so is how to sample.
            generation_config="vllm",
        )
        self._slots = self._llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self._expected = expected_of(model)
        self._asleep = False
        self._calls = 0
        self._version: int | None = None

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """See `RolloutEngine.generate`."""
        everyone, start = self._gathered(prompts)
        own = range(start, start + len(prompts))
        groups = self._groups(everyone, [range(len(everyone))], lambda _: own, sampling, progress, on_group)
        return [groups[place] for place in own]

    def parts(self, prompts: Sequence[Prompt], sampling: Sampling, ranks: int) -> list[list[int]]:
        """See `RolloutEngine.parts`: what each copy of the model has room for, then one for each rank of a copy."""
        together, copies = self.ranks_together, ranks // self.ranks_together
        at_once = min(len(prompts), copies * max(1, self._slots // distinct_responses(sampling)))
        later = range(at_once, len(prompts))
        return dealt(at_once, copies) + [
            list(later[start : start + together]) for start in range(0, len(later), together)
        ]

    def kept(self, part: Sequence[int]) -> Sequence[int]:
        """See `RolloutEngine.kept`."""
        return part[self._rank_together :: self.ranks_together]

    def generate_parts(
        self,
        prompts: Sequence[Prompt],
        parts: Iterable[Sequence[int]],
        sampling: Sampling,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> dict[int, RolloutGroup]:
        """See `RolloutEngine.generate_parts`: the next is asked for as soon as there is room for a prompt."""
        return self._groups(prompts, self._agreed(parts), self.kept, sampling, progress, on_group)

    def load_weights(self, source: Weights, version: int) -> None:
        """Wake up, load into vLLM's layout, and forget the prefixes of the old weights."""
        self._version = None
        if self._asleep:
            # vLLM takes its memory from the device, not from what torch keeps for the next training step.
            torch.cuda.empty_cache()
            self._llm.wake_up(tags=["weights"])
        # Copies: what ZeRO-3 gathered is gone when the next is asked for, and vLLM holds them until a layer is whole.
        weights = ((name, tensor.clone()) for name, tensor in checked(source, self._expected, version))
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._llm.apply_model(renew_tied_head)
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        if not self._llm.reset_prefix_cache():
            raise RolloutError(f"weights version {version}: vLLM kept the prefix cache of the old weights")
        self._version = version

    def sleep(self) -> None:
        """Free weights and cache; on a CPU there is nothing to free for others."""
        if self._gpu and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep, self._version = True, None

    def close(self) -> None:
        """Shut vLLM down; idempotent."""
        if self._llm is not None:
            client, self._llm = self._llm.llm_engine.engine_core, None
            if self._in_group:
                # Its own shutdown would end the trainer's process group too.
                client._finalizer.detach()
                client.engine_core.model_executor.shutdown()
            else:
                client.shutdown()

    def _gathered(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], int]:
        """The prompts of all ranks that share the model, and where this rank's start."""
        if self.ranks_together == 1:
            return list(prompts), 0
        by_rank: list[list[Prompt]] = [[]] * self.ranks_together
        dist.all_gather_object(by_rank, list(prompts), group=_together().cpu_group)
        start = sum(map(len, by_rank[: self._rank_together]))
        return [prompt for part in by_rank for prompt in part], start

    @property
    def _rank_together(self) -> int:
        return 0 if self.ranks_together == 1 else int(_together().rank_in_group)

    def _agreed(self, parts: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
        """The parts that the first of the ranks together takes, on all of them."""
        if self.ranks_together == 1:
            yield from parts
            return
        taken = iter(parts) if self._rank_together == 0 else iter(())
        while (part := _together().broadcast_object(next(taken, None))) is not None:
            yield part

    def _groups(
        self,
        prompts: Sequence[Prompt],
        parts: Iterable[Sequence[int]],
        kept: Callable[[Sequence[int]], Sequence[int]],
        sampling: Sampling,
        progress: OnResponses | None,
        on_group: OnGroup | None,
    ) -> dict[int, RolloutGroup]:
        """Of each part all is generated, and the groups of the places that are `kept` of it returned."""
        if (version := self._version) is None:
            raise RolloutError("the vLLM engine has no weights: call load_weights before generate")
        mine: set[int] = set()
        groups: dict[int, RolloutGroup] = {}

        def begun() -> Iterator[Sequence[int]]:
            for part in parts:
                mine.update(kept(part))
                yield part

        for place, output in self._finished(prompts, begun(), sampling):
            if place not in mine:
                continue
            rollouts = [_rollout(completion, version) for completion in output.outputs]
            groups[place] = RolloutGroup(prompts[place], repeated(rollouts, sampling))
            if progress:
                progress(len(groups) * sampling.group_size, len(mine) * sampling.group_size)
            if on_group:
                on_group(groups[place])
        return groups

    def _finished(
        self, prompts: Sequence[Prompt], parts: Iterator[Sequence[int]], sampling: Sampling
    ) -> Iterator[tuple[int, RequestOutput]]:
        """Place and outputs of each prompt, in the order of completion; a part begins when there is room for it."""
        engine, size = self._llm.llm_engine, distinct_responses(sampling)
        self._calls += 1
        running: dict[str, int] = {}
        left = True
        try:
            while left or running:
                if left and (not running or engine.get_num_unfinished_requests() + size <= self._slots):
                    part = next(parts, None)
                    left = part is not None
                    for place in part or ():
                        request_id = f"{self._calls}-{place}"
                        self._ask(engine, request_id, prompts[place], sampling)
                        running[request_id] = place
                    continue
                for output in engine.step():
                    yield running.pop(output.request_id), output
        finally:
            engine.abort_request(list(running))

    def _ask(self, engine: Any, request_id: str, prompt: Prompt, sampling: Sampling) -> None:
        check_prompts([prompt], self._context)
        params = sampling_params(prompt, sampling, stop_ids=sorted(self.stop_ids), context=self._context)
        engine.add_request(request_id, {"prompt_token_ids": list(prompt.token_ids)}, params)


def _together() -> Any:
    """vLLM's group of the ranks that share one copy of the model."""
    from vllm.distributed.parallel_state import get_tp_group

    return get_tp_group()


def _rollout(completion: Any, version: int) -> Rollout:
    return Rollout(
        token_ids=np.array(completion.token_ids, dtype=np.int32),
        log_probs=np.array(completion.logprobs.logprobs, dtype=np.float32),
        finish_reason=FinishReason(completion.finish_reason),
        weight_version=version,
    )


def _check_ranks(tensor_parallel: int) -> None:
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if ranks % tensor_parallel:
        raise ConfigError(
            f"rollout.tensor_parallel: must divide the {ranks} process(es) of a node (distributed.processes); got "
            f"{tensor_parallel}"
        )


def renew_tied_head(model: nn.Module) -> None:
    """On a CPU, vLLM computes logits with a packed copy of the head, and a reload leaves the copy of a tied one."""
    head = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)
