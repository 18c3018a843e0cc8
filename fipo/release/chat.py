"""Try a model in the terminal: each line is a problem of its own, asked as the model was trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.config import Config, Model, load_config
from fipo.data.schema import render
from fipo.errors import DataError
from fipo.models import load_model, load_stops, load_tokenizer
from fipo.release.registry import SETTINGS, download, fetch, find

MAX_RESPONSE_TOKENS = 1024
"""Where neither the run's settings nor the user says."""


@dataclass(frozen=True)
class Found:
    """A model on this machine."""

    folder: Path
    name: str
    """For people: with its version and aliases."""
    model: str
    """Name alone: of the registered model, or of the folder."""


def locate(reference: str, *, tracking_uri: str, directory: Path) -> Found:
    """A folder as it is; a registered model (`name`, `name@alias`, `name/version`), or a folder of the object store
    with its digest (`s3://bucket/prefix@sha256:...`), is brought to `directory`.

    Raises:
        RegistryError: there is no such model or version.
        StorageError: its weights are gone or damaged.
    """
    if Path(reference).is_dir():
        return Found(Path(reference), reference, Path(reference).resolve().name)
    uri, digest, sha256 = reference.partition("@sha256:")
    if digest:
        return Found(download(uri, sha256, directory), uri, uri.rstrip("/").rpartition("/")[2])
    model = find(tracking_uri, reference)
    title = f"{model.name} version {model.version} ({', '.join(model.aliases) or '-'})"
    return Found(fetch(model, directory), title, model.name)


class Chat:
    """A loaded model that answers.

    Args:
        folder: of the model; `fipo.yaml` in it says how it was asked in training.
        max_response_tokens: where the answer is cut off; None is what the run had.
        temperature: 0 takes the most probable token; None is what the run was evaluated with.

    Raises:
        ConfigError: there is no model in the folder.
    """

    def __init__(
        self, folder: Path, *, max_response_tokens: int | None = None, temperature: float | None = None
    ) -> None:
        import torch

        self._settings: Config | None = load_config(folder / SETTINGS) if (folder / SETTINGS).is_file() else None
        model = Model(name_or_path=str(folder))
        self._tokenizer = load_tokenizer(model)
        self._stops = load_stops(model, self._tokenizer)
        cuda = torch.cuda.is_available()
        self._model = load_model(model, dtype=torch.bfloat16 if cuda else torch.float32)
        torch.nn.Module.to(self._model, "cuda" if cuda else "cpu").eval()
        self._max_response_tokens, self._temperature = max_response_tokens, temperature

    def answer(self, problem: str) -> str:
        """The model's answer, which is also printed while it comes.

        Raises:
            DataError: the tokenizer has no tokens for the text.
        """
        from transformers import TextStreamer

        encoded = self._encode(problem)
        streamer = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        generate: Any = self._model.generate  # behind a decorator, which has no types
        ends = {"pad_token_id": self._tokenizer.pad_token_id, "eos_token_id": list(self._stops.ids)}
        tokens = generate(**encoded, streamer=streamer, **ends, **self._sampling())
        return str(self._tokenizer.decode(tokens[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))

    def _encode(self, problem: str) -> Any:
        tokenizer, settings = self._tokenizer, self._settings
        if settings:
            text, special = render(problem, tokenizer, settings.data), not settings.data.chat
        elif tokenizer.chat_template:
            messages = [{"role": "user", "content": problem}]
            asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            text, special = str(asked), False
        else:
            text, special = problem, True
        try:
            encoded = tokenizer(text, return_tensors="pt", add_special_tokens=special, return_token_type_ids=False)
        except Exception as error:  # the tokenizers library raises nothing narrower
            words = sorted(tokenizer.get_vocab())
            known = f"; it knows only {' '.join(words)}" if len(words) < 100 else ""
            raise DataError(f"the model's tokenizer has no tokens for {problem!r}{known}") from error
        return encoded.to(self._model.device)

    def _sampling(self) -> dict[str, Any]:
        settings = self._settings
        evaluation = settings.evaluation if settings else None
        temperature = self._temperature
        if temperature is None:
            temperature = evaluation.temperature if evaluation else 1.0
        length = self._max_response_tokens or (settings.rollout.max_response_tokens if settings else None)
        how: dict[str, Any] = {"max_new_tokens": length or MAX_RESPONSE_TOKENS, "do_sample": temperature > 0}
        if temperature > 0:
            how |= {"temperature": temperature, "top_p": evaluation.top_p if evaluation else 1.0, "top_k": 0}
        return how


def converse(chat: Chat) -> None:
    """Answer each line of standard input until it ends; Ctrl-C stops an answer."""
    for problem in _lines():
        try:
            chat.answer(problem)
        except DataError as error:
            print(f"fipo: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("\n(stopped)")


def _lines() -> Iterator[str]:
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        import readline  # noqa: F401 - gives `input` a history and arrow keys
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line
