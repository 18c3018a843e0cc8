"""Which tokens end a response: one set, of all that the model, its tokenizer and its chat template say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fipo.errors import ConfigError, DataError
from fipo.models.tokens import token_ids

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

_ANSWER = "42"


@dataclass(frozen=True, slots=True)
class Stops:
    """The tokens that end a response, in training, rollouts and evaluation alike."""

    ids: tuple[int, ...]
    """In ascending order."""
    end_of_turn: int | None
    """The one that the chat template puts after an answer; None where it puts none, or there is no template."""
    end_of_sequence: int
    """The tokenizer's `eos_token_id`."""

    def after(self, *, chat: bool) -> int:
        """The one that ends a demonstration, as a turn of a chat or as plain text."""
        return self.end_of_turn if chat and self.end_of_turn is not None else self.end_of_sequence

    def names(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """`<|im_end|>, <|endoftext|>`: for people."""
        tokens = tokenizer.convert_ids_to_tokens(list(self.ids))
        return ", ".join(token or f"token {id}" for token, id in zip(tokens, self.ids))  # a row that has no token

    def check_prompt(self, token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """A prompt must be open at its end.

        Raises:
            DataError: it ends with a token that ends a response.
        """
        if token_ids and token_ids[-1] in self.ids:
            token = tokenizer.convert_ids_to_tokens(int(token_ids[-1]))
            raise DataError(
                f"model.name_or_path: the tokenizer must leave a prompt open; it, or its chat template, ends it with "
                f"{token}, which ends a response too: set add_eos_token to false in tokenizer_config.json (or mend the "
                "post_processor in tokenizer.json, or the template)"
            )


def stops_of(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | None, generation: GenerationConfig | None
) -> Stops:
    """What tokenizer, model configuration, generation configuration and chat template together say.

    An engine that obeyed one of them alone would run past the ends that another marks: instruct models end a turn with
    a token that is often in the generation configuration or the template only.

    Raises:
        ConfigError: one of them names something else than tokens of the model.
    """
    end_of_turn = _end_of_turn(tokenizer)
    of_config = [*ids_of(config.get_text_config().eos_token_id), *ids_of(config.eos_token_id)] if config else []
    _check("config.json", of_config, config)
    of_generation = ids_of(generation.eos_token_id) if generation else []
    _check("generation_config.json", of_generation, config)
    said = [tokenizer.eos_token_id, end_of_turn, *of_config, *of_generation]
    return Stops(tuple(sorted({token for token in said if token is not None})), end_of_turn, tokenizer.eos_token_id)


def ids_of(value: Any) -> list[int]:
    """Of an `eos_token_id`: a number, a list of them, or None."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _check(file: str, ids: list[Any], config: PreTrainedConfig | None) -> None:
    embedded = config.get_text_config().vocab_size if config else math.inf
    if wrong := [one for one in ids if type(one) is not int or not 0 <= one < embedded]:
        raise ConfigError(
            f"model.name_or_path: eos_token_id in {file} must be tokens of the model, 0 to {embedded - 1}; "
            f"got {', '.join(map(repr, wrong))}"
        )


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token that the chat template writes after an answer."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template's own code: one that cannot render an answer says nothing of its end
        return None
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    [after] = token_ids([text.rpartition(_ANSWER)[2]], tokenizer, special=False)
    return next((token for token in after if token in special), None)
