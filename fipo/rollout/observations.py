"""From what an environment says to the tokens that the model reads before its next turn.

The tokens of earlier turns are kept as they were sampled: nothing is ever tokenized again. With `data.chat` an
observation is a user message, and what the chat template puts around it (the end of the message before, the
beginning of the next answer) is observed too.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from fipo.errors import ConfigError
from fipo.models.stops import Stops

_ANSWER, _OBSERVATION = "6 x 7 is 42", "4711 it is"


class Observations:
    """Encodes observations.

    Args:
        tokenizer: of the model.
        stops: the tokens that end a turn; no observation holds one, whatever its text is.
        chat: whether the model is asked in the tokenizer's chat template.
        max_tokens: of one observation, what the template adds aside; of a longer one the middle is left out.

    Raises:
        ConfigError: the chat template does not take a message after an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Stops, *, chat: bool, max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._special = {*stops.ids, *tokenizer.all_special_ids}
        self._end = stops.end_of_turn
        self._close, self._before, self._after = _around(tokenizer, stops.end_of_turn) if chat else ([], [], [])

    def encode(self, text: str, last_token: int) -> list[int]:
        """The tokens between a turn, which ended with `last_token`, and the next."""
        # A turn may end with another stop token than the template's: then the template's follows it.
        close = [] if last_token == self._end else self._close
        found = [*close, *self._before, *self._cut(self._ids(text)), *self._after]
        # Something must stand between two turns, or they are one.
        return found or self._ids("\n") or [self._tokenizer.pad_token_id]

    def _ids(self, text: str) -> list[int]:
        """Without special tokens: a tool prints whatever it likes, and must not end or begin a message."""
        try:
            ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        except Exception:  # of a tokenizer of words: the tokenizers library raises nothing narrower
            known = self._tokenizer.get_vocab()
            ids = [known[word] for word in text.split() if word in known]
        return [token for token in ids if token not in self._special]

    def _cut(self, ids: list[int]) -> list[int]:
        if len(ids) <= self._max_tokens:
            return ids
        head = self._max_tokens // 2
        return ids[:head] + ids[len(ids) - (self._max_tokens - head) :]


def _around(tokenizer: PreTrainedTokenizerBase, end_of_turn: int | None) -> tuple[list[int], list[int], list[int]]:
    """What the chat template writes: to end an answer; from there to a user message; from there to the next answer."""
    messages = [
        {"role": "user", "content": "6 x 7?"},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _OBSERVATION},
    ]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        before, after = text.rpartition(_ANSWER)[2].split(_OBSERVATION)
    except Exception as error:  # a template's own code
        raise ConfigError(
            f"data.chat: environments need a chat template that takes a user message after an answer; that of "
            f"{tokenizer.name_or_path!r} does not: {error}"
        ) from error
    ids: list[int] = tokenizer(before, add_special_tokens=False).input_ids
    at = ids.index(end_of_turn) + 1 if end_of_turn in ids else 0
    return ids[:at], ids[at:], tokenizer(after, add_special_tokens=False).input_ids
