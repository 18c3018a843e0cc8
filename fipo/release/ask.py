"""Questions to a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from fipo.config import Config
from fipo.errors import ServingError

ANSWER_SECONDS = 300.0
"""For one answer; a server that takes longer counts as one that does not answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """A problem, as a request for a chat."""

    model: str
    problem: str
    max_tokens: int
    temperature: float | None = None
    """None is what the server does by itself: as in the run's evaluation."""

    @property
    def body(self) -> dict[str, Any]:
        """Of the request."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.problem}],
            "max_tokens": self.max_tokens,
        }
        return body if self.temperature is None else {**body, "temperature": self.temperature}


def ask(url: str, question: Question) -> str:
    """The answer of the server at `url`.

    Raises:
        ServingError: it does not answer, or with something else.
    """
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(question.body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as reply:
            answer = json.load(reply)
        message = answer["choices"][0]["message"]
        generated = answer["usage"]["completion_tokens"]
    except urllib.error.HTTPError as error:
        raise ServingError(f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}") from None
    except (OSError, HTTPException) as error:
        raise ServingError(f"{url} does not answer: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServingError(f"{url} answers something else than a chat completion: {error!r}") from None
    if not generated:
        raise ServingError(f"{url} answers without a token")
    return message.get("content") or message.get("reasoning_content") or ""


def example(settings: Config | None) -> str:
    """A problem that the model's tokenizer knows: of the gate's benchmark where that is made and not read."""
    benchmark = settings.data.benchmarks[settings.gate_benchmark] if settings else None
    if benchmark and benchmark.is_made:
        from fipo.data.sources import read_rows

        made: Any = next(read_rows(benchmark)).content
        return str(made["prompt"])
    return "What is 6 times 7?"
