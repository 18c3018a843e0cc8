"""Prompts to servers and responses back: every server is kept busy, none is waited for when it is lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any

import aiohttp
import numpy as np

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.errors import RolloutError
from fipo.rollout.engine import OnGroup, OnResponses, Sampling, response_limit
from fipo.rollout.served.replicas import Replicas, answer
from fipo.rollout.vllm import distinct_responses, repeated, request_seed

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that one prompt is sent before the failure is the prompt's, not a server's."""


class ReplicaLost(Exception):
    """A server no longer answers, or answers with other weights."""


class Dispatcher:
    """Shares prompts among servers.

    A server takes the next prompt when it is done with one, so none idles while another has a queue. A prompt whose
    request was lost is sent again. A server that is lost, or serves other weights, gets no more until `forgive`.

    Args:
        replicas: the servers.
        stop_ids: tokens that end a response.
        context: tokens of prompt and response at most.
        prompts_in_flight: prompts at one server at once.
    """

    def __init__(self, replicas: Replicas, *, stop_ids: list[int], context: int, prompts_in_flight: int) -> None:
        self._replicas, self._stop_ids, self._context = replicas, stop_ids, context
        self._prompts_in_flight = prompts_in_flight
        self._lost: set[str] = set()

    def forgive(self) -> None:
        """Try lost servers again from now on."""
        self._lost.clear()

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        version: int,
        progress: OnResponses | None = None,
        on_group: OnGroup | None = None,
    ) -> list[RolloutGroup]:
        """The responses to each prompt, in order, all sampled with the weights `version`.

        Raises:
            RolloutError: no server is left, or one prompt failed at several.
        """
        work = _Work(prompts, sampling, version, progress, on_group)
        if prompts:
            asyncio.run(self._generate(work))
        return [work.groups[index] for index in range(len(prompts))]

    async def _generate(self, work: _Work) -> None:
        async with self._replicas.session() as session:
            live = [url for url in self._replicas.urls if url not in self._lost]
            # Not more than its share at first: else one server would have all of a batch that is small enough.
            requests = min(self._prompts_in_flight, math.ceil(len(work.prompts) / max(len(live), 1)))
            results = await asyncio.gather(*(self._use(session, url, work, requests) for url in live))
        if not work.done.is_set():
            losses = "; ".join(filter(None, results)) or "all were lost before"
            raise RolloutError(f"no rollout server is left: {losses}")

    async def _use(self, session: aiohttp.ClientSession, url: str, work: _Work, requests: int) -> str:
        """Keep so many requests at one server until all work is done or it is lost; returns why it was lost."""
        why = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(session, url, work))
                for _ in range(requests):
                    tasks.create_task(self._serve(session, url, work))
        except* ReplicaLost as lost:
            self._lost.add(url)
            why = str(lost.exceptions[0])
            logger.warning("%s; its prompts go to the others", why)
        except* RolloutError as failed:
            raise failed.exceptions[0] from None
        return why

    async def _watch(self, session: aiohttp.ClientSession, url: str, work: _Work) -> None:
        while not work.done.is_set():
            try:
                await asyncio.wait_for(work.done.wait(), self._replicas.health_seconds)
            except TimeoutError:
                if not await self._replicas.is_healthy(session, url):
                    raise ReplicaLost(f"rollout server {url} does not answer /health") from None

    async def _serve(self, session: aiohttp.ClientSession, url: str, work: _Work) -> None:
        while (index := await work.take()) is not None:
            try:
                work.finish(index, await self._ask(session, url, index, work))
            except RolloutError as error:
                work.retry(index, error)
                if not await self._replicas.is_healthy(session, url):
                    raise ReplicaLost(f"rollout server {url} is lost: {error}") from error
            except BaseException:
                work.give_back(index)
                raise

    async def _ask(self, session: aiohttp.ClientSession, url: str, index: int, work: _Work) -> tuple[Rollout, ...]:
        prompt, sampling = work.prompts[index], work.sampling
        request = {
            "token_ids": list(prompt.token_ids),
            "sampling_params": {
                "n": distinct_responses(sampling),
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": response_limit(prompt, sampling, self._context),
                "stop_token_ids": self._stop_ids,
                "seed": request_seed(sampling.seed, prompt.draw_id),
                "logprobs": 0,
            },
        }
        choices = (await answer(session, url, "POST", "inference/v1/generate", request))["choices"]
        versions = {span["version"] for choice in choices for span in choice["weight_versions"]}
        if versions != {str(work.version)}:
            raise ReplicaLost(
                f"rollout server {url} answered with weights version {', '.join(sorted(versions))}, not {work.version}"
            )
        ordered = sorted(choices, key=lambda choice: int(choice["index"]))
        return repeated([_rollout(choice, work.version) for choice in ordered], sampling)


def _rollout(choice: dict[str, Any], version: int) -> Rollout:
    return Rollout(
        token_ids=np.array(choice["token_ids"], dtype=np.int32),
        log_probs=np.array([token["logprob"] for token in choice["logprobs"]["content"]], dtype=np.float32),
        finish_reason=FinishReason(choice["finish_reason"]),
        weight_version=version,
    )


class _Work:
    """The prompts of one call: to be sent, or answered."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        version: int,
        progress: OnResponses | None,
        on_group: OnGroup | None,
    ) -> None:
        self.prompts, self.sampling, self.version = prompts, sampling, version
        self.groups: dict[int, RolloutGroup] = {}
        self.done = asyncio.Event()
        self._progress, self._on_group = progress, on_group
        self._attempts = [0] * len(prompts)
        self._waiting: asyncio.Queue[int | None] = asyncio.Queue()
        for index in range(len(prompts)):
            self._waiting.put_nowait(index)

    async def take(self) -> int | None:
        """The next prompt to send, when there is one; None when all are answered."""
        index = await self._waiting.get()
        if index is None:
            # For the next who waits.
            self._waiting.put_nowait(None)
        return index

    def finish(self, index: int, rollouts: tuple[Rollout, ...]) -> None:
        """A prompt is answered."""
        self.groups[index] = RolloutGroup(self.prompts[index], rollouts)
        if self._progress:
            size = self.sampling.group_size
            self._progress(len(self.groups) * size, len(self.prompts) * size)
        if self._on_group:
            self._on_group(self.groups[index])
        if len(self.groups) == len(self.prompts):
            self.done.set()
            self._waiting.put_nowait(None)

    def retry(self, index: int, error: RolloutError) -> None:
        """A request failed: send it again, unless it failed too often."""
        self._attempts[index] += 1
        if self._attempts[index] == ATTEMPTS:
            raise RolloutError(f"prompt {self.prompts[index].id}: failed {ATTEMPTS} times; the last time: {error}")
        self.give_back(index)

    def give_back(self, index: int) -> None:
        """A prompt is to be sent by another."""
        self._waiting.put_nowait(index)
