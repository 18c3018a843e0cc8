"""What the checks share: the settings, and what is read once for all of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

from fipo.config import Config, Model, Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fipo.data.schema import Problem
    from fipo.models.stops import Stops
    from fipo.rewards.pool import GraderPool


class Skipped(Exception):
    """A check cannot be made, for what it needs was refused by another one."""


class Look:
    """At one run's settings; what is read stays for later checks. Functions of one's own are found as ranks find them:
    in the working directory too.

    Args:
        config: the settings.
        download: whether data sets that are not on this machine are brought here to be looked at.
    """

    def __init__(self, config: Config, *, download: bool = False) -> None:
        self.config, self.download = config, download
        self.sound: dict[str, list[Problem]] = {}
        """By source, the sound ones of its first rows, as far as looked at."""
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._stops: Stops | None = None
        self._pool: GraderPool | None = None
        if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python has it there
            sys.path.insert(0, os.getcwd())  # noqa: PTH109

    @property
    def sources(self) -> dict[str, Source]:
        """By the setting that names them; without demonstrations that nothing learns from."""
        named = self.config.data.sources
        return {name: one for name, one in named.items() if self.config.sft.steps or not name.startswith("data.sft")}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's, once it is loaded.

        Raises:
            Skipped: there is none.
        """
        if self._tokenizer is None:
            raise Skipped("there is no tokenizer")
        return self._tokenizer

    def load_tokenizer(self, model: Model) -> PreTrainedTokenizerBase:
        """Load the model's tokenizer, and find the tokens that end a response.

        Raises:
            ConfigError: there is none.
        """
        from fipo.models import load_stops, load_tokenizer

        self._tokenizer = load_tokenizer(model)
        self._stops = load_stops(model, self._tokenizer)
        return self._tokenizer

    @property
    def stops(self) -> Stops:
        """The tokens that end a response.

        Raises:
            Skipped: there is no tokenizer.
        """
        if self._stops is None:
            raise Skipped("there is no tokenizer")
        return self._stops

    @property
    def problems(self) -> list[Problem]:
        """Sound rows of the training data.

        Raises:
            Skipped: none are known.
        """
        found = [one for name, problems in self.sound.items() if name.startswith("data.train") for one in problems]
        if not found:
            raise Skipped("no row of data.train is sound")
        return found

    @property
    def answered(self) -> Problem:
        """A sound row of the demonstrations, or of the training data.

        Raises:
            Skipped: none is known.
        """
        found = next((problems[0] for name, problems in self.sound.items() if name.startswith("data.sft")), None)
        return found or self.problems[0]

    @property
    def graders(self) -> GraderPool:
        """Processes that grade; started when they are first asked for."""
        from fipo.rewards.pool import open_pool

        self._pool = self._pool or open_pool(self.config.reward, workers=1)
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.close()
