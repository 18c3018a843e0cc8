"""A problem, the parquet layout it is kept in, and how it becomes a prompt."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.batch import Prompt
from fipo.config import Data
from fipo.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ("id", "prompt", "answer", "response", "source", "grader", "columns", "environment")
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in COLUMNS])
"""Layout of every prepared file."""
ANY_PROBLEM = "What is 1 + 1?"
"""A chat template that takes any problem takes this one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, clean: every text is valid Unicode, prompt and answer are not empty."""

    id: str
    """`content_id(prompt)`."""
    prompt: str
    """As the data set has it; `data.prompt_template` is applied by `tokenize`."""
    answer: str
    """The reference answer, as the grader takes it."""
    response: str = ""
    """The demonstration, for the warm-up."""
    source: str = ""
    """Name of the data set or benchmark."""
    grader: str = "math"
    """What tells right from wrong."""
    columns: str = "{}"
    """What it reads besides the answer, as JSON."""
    environment: str = ""
    """What answers the model's turns."""


def content_id(prompt: str) -> str:
    """SHA-256 (hex) of the prompt in Unicode form NFC with runs of blanks made one: equal problems have equal ids."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFC", prompt).split()).encode()).hexdigest()


def render(prompt: str, tokenizer: PreTrainedTokenizerBase, data: Data) -> str:
    """The text that the model is given: the prompt in `data.prompt_template` and, with `data.chat`, the chat template.

    Raises:
        DataError: `data.chat` is set and the tokenizer has no chat template, or it refuses the messages or leaves the
            problem out.
    """
    text = data.prompt_template.replace("{prompt}", prompt)
    if not data.chat:
        return text
    if not tokenizer.chat_template:
        raise DataError(
            f"data.chat: the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "set data.chat=false or take an instruct model"
        )
    messages = [{"role": "user", "content": text}]
    if data.system_prompt:
        messages.insert(0, {"role": "system", "content": data.system_prompt})
    arguments = data.chat_template_arguments
    name = f"data.chat: the chat template of {tokenizer.name_or_path!r}"
    try:
        chat = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments))
    except Exception as error:  # a template's own code; one that takes no system message, or several without a default
        raise DataError(
            f"{name} refuses a problem "
            f"(data.system_prompt: {data.system_prompt!r}, data.chat_template_arguments: {arguments}): {error}"
        ) from error
    if "".join(text.split()) not in "".join(chat.split()):
        raise DataError(
            f"{name} must write the user's message as it is, and leaves out or changes it: it takes messages of "
            f"another form, such as a list of texts and images. It makes {chat[:200]!r} of {text[:200]!r}"
        )
    return chat


def reads_the_clock(tokenizer: PreTrainedTokenizerBase, data: Data) -> bool:
    """Whether the chat template writes the present date into prompts: what comes of a run then changes with the day."""
    if not data.chat:
        return False
    render(ANY_PROBLEM, tokenizer, data)
    no_clock = data.chat_template_arguments | {"strftime_now": "no function"}
    try:
        render(ANY_PROBLEM, tokenizer, data.model_copy(update={"chat_template_arguments": no_clock}))
    except DataError:
        return True
    return False


def encode(texts: list[str], tokenizer: PreTrainedTokenizerBase, data: Data) -> list[list[int]]:
    """Token ids of rendered prompts; a chat template has put its own special tokens in the text.

    Raises:
        DataError: as `token_ids`.
    """
    from fipo.models.tokens import token_ids

    return token_ids(texts, tokenizer, special=not data.chat)


def tokenize(problem: Problem, tokenizer: PreTrainedTokenizerBase, data: Data) -> Prompt:
    """The problem as a rollout engine takes it."""
    [ids] = encode([render(problem.prompt, tokenizer, data)], tokenizer, data)
    return Prompt(
        id=problem.id,
        text=problem.prompt,
        token_ids=tuple(ids),
        answer=problem.answer,
        source=problem.source,
        grader=problem.grader,
        columns=problem.columns,
        environment=problem.environment,
    )


def to_table(problems: Sequence[Problem]) -> pa.Table:
    """The problems in `SCHEMA`."""
    columns = [[getattr(problem, name) for problem in problems] for name in COLUMNS]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def read_problems(path: Path) -> list[Problem]:
    """Read a file that `prepare` wrote.

    Raises:
        DataError: the file is missing, damaged, or of another layout.
    """
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: no readable parquet file ({error}); run `fipo prepare` first") from error
    if table.schema.names != list(COLUMNS):
        raise DataError(
            f"{path}: expected the columns {', '.join(COLUMNS)}; found {', '.join(table.schema.names)}. "
            "Is this a raw data set? Name it in the recipe's data section and run `fipo prepare`"
        )
    return [Problem(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
