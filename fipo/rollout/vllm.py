"""Rollouts by vLLM in the trainer's own processes: it sleeps while training needs the memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
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
    response_limit,
)
from fipo.rollout.weights import checked, expected_of

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


FLOAT32_HEAD = {"head_dtype": "float32"}
"""As the trainer's: logits that are rounded to bfloat16 are some 0.01 nats off."""


class VllmEngine(RolloutEngine):
    """vLLM beside the trainer on the same devices (colocated): continuous batching, prefix caching, paged memory.

    Under torchrun, `tensor_parallel` neighbouring ranks share one copy of the model and generate for each other; all of
    them must call each method together.

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
        self._context, self._tensor_parallel = context, tensor_parallel
        self.interruptible = tensor_parallel == 1
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
        version = self._version
        if version is None:
            raise RolloutError("the vLLM engine has no weights: call load_weights before generate")
        check_prompts(prompts, self._context)
        everyone, start = self._gathered(prompts)
        groups: dict[int, RolloutGroup] = {}
        for index, output in self._finished(everyone, sampling):
            if not start <= index < start + len(prompts):
                continue
            rollouts = [_rollout(completion, version) for completion in output.outputs]
            groups[index] = RolloutGroup(everyone[index], repeated(rollouts, sampling))
            if progress:
                progress(len(groups) * sampling.group_size, len(prompts) * sampling.group_size)
            if on_group:
                on_group(groups[index])
        return [groups[index] for index in range(start, start + len(prompts))]

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
        if self._tensor_parallel == 1:
            return list(prompts), 0
        from vllm.distributed.parallel_state import get_tp_group

        group = get_tp_group()
        by_rank: list[list[Prompt]] = [[]] * group.world_size
        dist.all_gather_object(by_rank, list(prompts), group=group.cpu_group)
        start = sum(map(len, by_rank[: group.rank_in_group]))
        return [prompt for part in by_rank for prompt in part], start

    def _finished(self, prompts: list[Prompt], sampling: Sampling) -> Iterator[tuple[int, RequestOutput]]:
        """Index and outputs of each prompt, in the order of completion."""
        engine = self._llm.llm_engine
        self._calls += 1
        waiting = {f"{self._calls}-{index}": index for index in range(len(prompts))}
        for request_id, index in waiting.items():
            params = sampling_params(prompts[index], sampling, stop_ids=sorted(self.stop_ids), context=self._context)
            engine.add_request(request_id, {"prompt_token_ids": list(prompts[index].token_ids)}, params)
        try:
            while engine.has_unfinished_requests():
                for output in engine.step():
                    yield waiting.pop(output.request_id), output
        finally:
            engine.abort_request(list(waiting))


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


def request_seed(seed: int, draw_id: str) -> int:
    """Seed of one draw's responses, below 2^63."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{draw_id}".encode(), digest_size=8).digest()) >> 1


def distinct_responses(sampling: Sampling) -> int:
    """Responses that vLLM is asked for: it refuses to give the greedy one more than once."""
    return 1 if sampling.temperature == 0.0 else sampling.group_size


def repeated(rollouts: list[Rollout], sampling: Sampling) -> tuple[Rollout, ...]:
    """A whole group of the distinct responses."""
    return tuple(rollouts * (sampling.group_size // len(rollouts)))


def sampling_params(prompt: Prompt, sampling: Sampling, *, stop_ids: list[int], context: int) -> SamplingParams:
    """What vLLM is asked for one prompt; the response of index i gets the seed of index 0 plus i."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=distinct_responses(sampling),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=response_limit(prompt, sampling, context),
        stop_token_ids=stop_ids,
        seed=request_seed(sampling.seed, prompt.draw_id),
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def renew_tied_head(model: nn.Module) -> None:
    """On a CPU, vLLM computes logits with a packed copy of the head, and a reload leaves the copy of a tied one."""
    head = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)
