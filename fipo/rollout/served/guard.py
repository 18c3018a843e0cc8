"""Keeps strangers from a rollout server: its weight-update routes could do anything to it."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

TOKEN_VARIABLE = "FIPO_ROLLOUT_TOKEN"
"""Environment variable that holds the secret which trainer and rollout servers share."""

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Guard:
    """ASGI middleware: every route but `/health` needs `Authorization: Bearer $FIPO_ROLLOUT_TOKEN`."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[TOKEN_VARIABLE]}".encode()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or scope["path"] == "/health" or self._admits(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"a rollout server needs the job's token"})

    def _admits(self, headers: dict[bytes, bytes]) -> bool:
        return hmac.compare_digest(headers.get(b"authorization", b""), self._expected)
