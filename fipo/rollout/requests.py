"""What vLLM is asked for a prompt, in the trainer's processes or at a server."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fipo.batch import Prompt, Rollout
from fipo.rollout.engine import Sampling, response_limit

if TYPE_CHECKING:
    from vllm import SamplingParams


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
