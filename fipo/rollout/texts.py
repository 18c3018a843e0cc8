"""The text of responses, and which characters of it each token stands for."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"
"""What the bytes of a token decode to that begins or ends inside a character."""

LONGEST = 8
"""Tokens that are taken together at most: bytes that never make a character end here."""


class TokenTexts:
    """Texts of tokens where they stand in a response; each is found once.

    A token alone may read otherwise than behind another: word-level tokenizers put a space between two, and
    SentencePiece swallows the first one's. Special tokens are shown.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        plain = ([one] for one in range(len(tokenizer)) if one not in special)
        self._before = next((row for row in plain if self.decode(row).isalnum()), [])
        """Any token, to see what another one adds to it."""
        self._text_before = self.decode(self._before)
        self._behind: dict[int, str] = {}
        self._unfinished: set[int] = set()

    def decode(self, ids: list[int]) -> str:
        """The text of a row of tokens."""
        text = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def split(self, response: NDArray[np.int32]) -> list[str]:
        """The texts of a response's tokens; joined they are the response.

        Tokens that share a character, such as the bytes of an emoji, have it all in the first of them.
        """
        ids = response.tolist()
        new = {one: self._added([one]) for one in set(ids) - self._behind.keys()}
        self._behind |= new
        self._unfinished |= {one for one, text in new.items() if UNFINISHED in text}
        found: list[str] = []
        for unfinished, run in self._runs(ids):
            tokens = list(run)
            found += self._shared(tokens) if unfinished else map(self._behind.__getitem__, tokens)
        if ids and ids[0] not in self._unfinished:
            found[0] = self.decode(ids[:1])
        return found

    def _runs(self, ids: list[int]) -> Iterable[tuple[bool, Iterable[int]]]:
        """Tokens in a row that end inside a character, or do not; most responses have none that do."""
        if self._unfinished.isdisjoint(ids):
            return [(False, ids)]
        return groupby(ids, self._unfinished.__contains__)

    def _shared(self, tokens: list[int]) -> list[str]:
        """Texts of tokens that no character ends with alone: each character is its first token's."""
        found, begun = [], 0
        for end in range(1, len(tokens) + 1):
            text = self._added(tokens[begun:end])
            if not text.endswith(UNFINISHED) or end in (begun + LONGEST, len(tokens)):
                found += [text, *[""] * (end - begun - 1)]
                begun = end
        return found

    def _added(self, tokens: list[int]) -> str:
        """What tokens add to the text before them."""
        text = self.decode([*self._before, *tokens])
        return text.removeprefix(self._text_before) if text.startswith(self._text_before) else self.decode(tokens)
