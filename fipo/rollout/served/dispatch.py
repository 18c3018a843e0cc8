"""Prompts to servers and responses back: every server is kept busy, none is waited for when it is lost."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
import numpy as np

from fipo.batch import FinishReason, Prompt, Rollout, RolloutGroup
from fipo.errors import RolloutError, StopRequested
from fipo.rollout.engine import OnGroup, OnResponses, Sampling, response_limit
from fipo.rollout.requests import distinct_responses, repeated, request_seed
from fipo.rollout.served.replicas import Replicas, answer

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that one prompt fails at servers that are well before the failure is the prompt's."""
SILENT_LOOKS = 2
"""Looks in a row at which a server neither answers `/health` nor has answered a prompt since: then it is lost. One may
fall into the seconds in which it writes a large answer."""


class ReplicaLost(Exception):
    """A server no longer answers, or answers with other weights."""


class Dispatcher:
    """Shares prompts among servers.

    A server takes the next prompt when it is done with one, so none idles while another has a queue. No request has a
    time limit: what waits in a server's queue takes as long as what stands before it. A server is lost when it does
    not answer `/health`, or has prompts and makes no progress with them for the replicas' `timeout_seconds`. Then the
    requests that it had are sent to others; it gets no more until `forgive`, nor does one with other weights.

    Args:
        replicas: the servers.
        stop_ids: tokens that end a response.
        context: tokens of prompt and response at most.
        prompts_in_flight: prompts at one server at once.
    """

    def __init__(self, replicas: Replicas, *, stop_ids: list[int], context: int, prompts_in_flight: int) -> None:
        self._replicas, self._stop_ids, self._context = replicas, stop_ids, context
        self._prompts_in_flight = prompts_in_flight
        self.newest = 0
        """The last version of the weights that was sent, or is on its way: up to it responses may go on."""
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
        """The responses to each prompt, in order, sampled with the weights `version` or later ones up to `newest`.

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
            try:
                async with asyncio.TaskGroup() as tasks:
                    uses = [tasks.create_task(self._use(session, url, work, requests)) for url in live]
            except* (RolloutError, StopRequested) as failed:
                raise failed.exceptions[0] from None
            results = [use.result() for use in uses]
        if not work.done.is_set():
            losses = "; ".join(filter(None, results)) or "all were lost before"
            raise RolloutError(f"no rollout server is left: {losses}")

    async def _use(self, session: aiohttp.ClientSession, url: str, work: _Work, requests: int) -> str:
        """Keep so many requests at one server until all work is done or it is lost; returns why it was lost."""
        why, pulse = "", _Pulse()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(session, url, work, pulse))
                for _ in range(requests):
                    tasks.create_task(self._serve(session, url, work, pulse))
        except* ReplicaLost as lost:
            self._lost.add(url)
            why = str(lost.exceptions[0])
            logger.warning("%s; its prompts go to the others", why)
        except* (RolloutError, StopRequested) as failed:
            raise failed.exceptions[0] from None
        return why

    async def _watch(self, session: aiohttp.ClientSession, url: str, work: _Work, pulse: _Pulse) -> None:
        seen: tuple[int, float | None] = (0, None)
        silent, moved = 0, time.monotonic()
        while not work.done.is_set():
            try:
                await asyncio.wait_for(work.done.wait(), self._replicas.health_seconds)
                return
            except TimeoutError:
                pass
            before, now = seen, time.monotonic()
            healthy = await self._replicas.is_healthy(session, url)
            seen = pulse.answered, await self._replicas.sampled_tokens(session, url)
            silent = 0 if healthy or seen[0] != before[0] else silent + 1
            if silent == SILENT_LOOKS:
                raise ReplicaLost(f"rollout server {url} does not answer /health")
            if seen != before or not pulse.running:
                moved = now
            elif now - moved > self._replicas.timeout_seconds:
                raise ReplicaLost(
                    f"rollout server {url} has made no progress with {pulse.running} prompt(s) for {now - moved:.0f} s"
                )

    async def _serve(self, session: aiohttp.ClientSession, url: str, work: _Work, pulse: _Pulse) -> None:
        while (index := await work.take()) is not None:
            try:
                with pulse.request():
                    rollouts = await self._ask(session, url, index, work)
                work.finish(index, rollouts)
            except RolloutError as error:
                work.give_back(index)
                if not await self._replicas.is_healthy(session, url):
                    raise ReplicaLost(f"rollout server {url} is lost: {error}") from error
                work.failed(index, error)
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
        answered = await answer(session, url, "POST", "inference/v1/generate", request, self._replicas.until_lost)
        choices = answered["choices"]
        versions = {span["version"] for choice in choices for span in choice["weight_versions"]}
        if not versions or not all(self._is_fresh(version, work.version) for version in versions):
            raise ReplicaLost(
                f"rollout server {url} answered with weights version {', '.join(sorted(versions))}, not {work.version}"
            )
        ordered = sorted(choices, key=lambda choice: int(choice["index"]))
        return repeated([_rollout(choice) for choice in ordered], sampling)

    def _is_fresh(self, version: str, begun: int) -> bool:
        """Whether it is the version with which the batch was begun, or one that has been sent since."""
        return version.isdigit() and begun <= int(version) <= max(begun, self.newest)


def _rollout(choice: dict[str, Any]) -> Rollout:
    spans = choice["weight_versions"]
    versions = np.repeat([int(span["version"]) for span in spans], [span["end"] - span["start"] for span in spans])
    return Rollout(
        token_ids=np.array(choice["token_ids"], dtype=np.int32),
        log_probs=np.array([token["logprob"] for token in choice["logprobs"]["content"]], dtype=np.float32),
        finish_reason=FinishReason(choice["finish_reason"]),
        weight_version=int(versions[0]),
        later_versions=versions if versions[-1] != versions[0] else None,
    )


class _Pulse:
    """What one server is doing for this rank."""

    def __init__(self) -> None:
        self.running, self.answered = 0, 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """A prompt is there; it counts as answered when the block ends well."""
        self.running += 1
        try:
            yield
            self.answered += 1
        finally:
            self.running -= 1


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

    def failed(self, index: int, error: RolloutError) -> None:
        """A server that is well did not answer the prompt; too often is an error."""
        self._attempts[index] += 1
        if self._attempts[index] == ATTEMPTS:
            raise RolloutError(f"prompt {self.prompts[index].id}: failed {ATTEMPTS} times; the last time: {error}")

    def give_back(self, index: int) -> None:
        """A prompt is to be sent by another."""
        self._waiting.put_nowait(index)
