"""HTTP to rollout servers: with the job's token, with time limits, to one or to all at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from fipo.errors import RolloutError
from fipo.waits import Wait

logger = logging.getLogger(__name__)

PROGRESS = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")
"""Counters of vLLM's `/metrics`: they move while it computes, long before a response is whole."""


class Replicas:
    """The rollout servers of a job.

    Args:
        urls: their addresses, `http://host:port`.
        token: the secret that they share with the trainer.
        timeout_seconds: time for one request that replaces weights or asks about them, and without any progress of one
            that samples: how long that takes depends on how much else the server has to do.
        health_seconds: time to answer `/health`, and between two looks at it; a busy server may take seconds.
    """

    def __init__(self, urls: Sequence[str], token: str, timeout_seconds: float, health_seconds: float = 15.0) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.health_seconds, self.timeout_seconds = health_seconds, timeout_seconds
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=health_seconds)
        self.until_lost = aiohttp.ClientTimeout(total=None, sock_connect=health_seconds)
        """Of requests that sample: who asks watches the server meanwhile."""

    def session(self) -> aiohttp.ClientSession:
        """A session to ask them in; use it as an async context manager."""
        return aiohttp.ClientSession(
            headers=self._headers, timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
        )

    def wait_for_all(self, seconds: float) -> None:
        """Wait until every server is well; after `seconds` those that are not are left out."""
        wait, said = Wait("rollout servers to start", seconds), False
        while absent := set(self.urls) - set(self.willing("GET", "health")):
            if wait.over:
                logger.warning("not well after %.0f s, so left out: %s", seconds, ", ".join(sorted(absent)))
                return
            if not said:
                said = True
                logger.warning("%s: %d of %d are not well", wait, len(absent), len(self.urls))
            time.sleep(1.0)

    def willing(self, method: str, path: str) -> list[str]:
        """The servers that do as they are asked, within `health_seconds`."""

        async def ask() -> list[bool]:
            async with self.session() as session:
                return await asyncio.gather(*(self.is_willing(session, url, method, path) for url in self.urls))

        return [url for url, willing in zip(self.urls, asyncio.run(ask())) if willing]

    async def is_healthy(self, session: aiohttp.ClientSession, url: str) -> bool:
        """Whether the server answers and its engine lives."""
        return await self.is_willing(session, url, "GET", "health")

    async def is_willing(self, session: aiohttp.ClientSession, url: str, method: str, path: str) -> bool:
        """Whether the server does as it is asked, within `health_seconds`."""
        try:
            limit = aiohttp.ClientTimeout(total=self.health_seconds)
            async with session.request(method, f"{url}/{path}", timeout=limit) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def sampled_tokens(self, session: aiohttp.ClientSession, url: str) -> float | None:
        """Tokens of prompts and responses that the server has computed since it started; None where it does not say."""
        try:
            limit = aiohttp.ClientTimeout(total=self.health_seconds)
            async with session.get(f"{url}/metrics", timeout=limit) as response:
                lines = (await response.text()).splitlines() if response.status == 200 else []
        except (aiohttp.ClientError, TimeoutError):
            return None
        values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(PROGRESS)]
        return sum(values) if values else None

    def get(self, urls: Sequence[str], path: str) -> list[Any]:
        """What each of `urls` answers to GET.

        Raises:
            RolloutError: one did not answer, or refused.
        """
        return self._all("GET", path, dict.fromkeys(urls))

    def post(self, bodies: Mapping[str, Any], path: str) -> list[Any]:
        """What each server answers to its body.

        Raises:
            RolloutError: one did not answer, or refused.
        """
        return self._all("POST", path, bodies)

    def _all(self, method: str, path: str, bodies: Mapping[str, Any]) -> list[Any]:
        async def ask() -> list[Any]:
            async with self.session() as session:
                return await asyncio.gather(*(answer(session, url, method, path, bodies[url]) for url in bodies))

        return asyncio.run(ask())


async def answer(
    session: aiohttp.ClientSession,
    url: str,
    method: str,
    path: str,
    body: Any,
    timeout: aiohttp.ClientTimeout | None = None,
) -> Any:
    """The JSON that one server answers; `timeout` replaces the session's.

    Raises:
        RolloutError: it did not answer, or refused.
    """
    try:
        async with session.request(method, f"{url}/{path}", json=body, timeout=timeout or session.timeout) as response:
            if response.status != 200:
                text = (await response.text())[:500]
                raise RolloutError(f"rollout server {url}: {method} /{path} answered {response.status}: {text}")
            return await response.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RolloutError(f"rollout server {url}: {method} /{path} failed: {error or type(error).__name__}") from error
