"""Texts as tokens, whatever somebody else's tokenizer does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fipo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, special: bool) -> list[list[int]]:
    """Token ids of each text, `special` with the tokens that the tokenizer puts around it.

    Raises:
        DataError: the tokenizer cannot read one of them.
    """
    try:
        return list(tokenizer(texts, add_special_tokens=special)["input_ids"])
    except BaseException as error:  # of its library in Rust: nothing narrower, and a panic is not even an Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            name = tokenizer.name_or_path or "model.architecture"
            raise DataError(f"the tokenizer of {name!r} has no tokens for {texts[0][:100]!r}: {error}") from error
        raise
