"""The model: its files, its tokenizer, and what one problem looks like to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.check.look import Look
from fipo.config import Model
from fipo.errors import ConfigError, DataError
from fipo.findings import Finding, excerpt
from fipo.inputs.external import model_commit

if TYPE_CHECKING:
    from fipo.batch import Prompt
    from fipo.data.schema import Problem

SHOWN_CHARACTERS = 600
SHOWN_TOKENS = 40


def tokenizer(look: Look) -> Iterator[Finding]:
    """What the model's tokenizer is, and which tokens end a response."""
    loaded = look.load_tokenizer(_pinned(look.config.model))
    found = f"{len(loaded)} tokens; stops at: {look.stops.names(loaded)}"
    if loaded.chat_template and not look.config.data.chat:
        said = f"{found}. It has a chat template, and data.chat is false: the model is asked in plain text"
        yield Finding("tokenizer", "warning", said)
    else:
        yield Finding("tokenizer", "ok", found)


def one_row(look: Look) -> Iterator[Finding]:
    """A problem as the model sees it, as text and as tokens."""
    from fipo.data.schema import reads_the_clock, render

    data, (problem, prompt) = look.config.data, _first(look)
    text = render(problem.prompt, look.tokenizer, data)
    look.stops.check_prompt(prompt.token_ids, look.tokenizer)
    tokens = look.tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    cut = " ..." if len(tokens) > SHOWN_TOKENS else ""
    lines = [
        f"as text: {excerpt(text, SHOWN_CHARACTERS)!r}",
        f"as {len(tokens)} tokens: {' '.join(tokens[:SHOWN_TOKENS])}{cut}",
        f"stops at: {look.stops.names(look.tokenizer)}",
        f"answer: {excerpt(problem.answer, SHOWN_CHARACTERS)!r}, graded by {problem.grader}",
    ]
    if data.system_prompt:
        lines.insert(0, f"data.system_prompt: {data.system_prompt!r}")
    if data.chat_template_arguments:
        lines.insert(0, f"data.chat_template_arguments: {json.dumps(data.chat_template_arguments, default=str)}")
    too_long = len(tokens) > data.max_prompt_tokens
    if too_long:
        lines.append(f"longer than data.max_prompt_tokens = {data.max_prompt_tokens}: it would be removed")
    longest, context = data.max_prompt_tokens + look.config.rollout.max_response_tokens, _context(look)
    too_wide = longest > context
    if too_wide:
        lines.append(
            f"the model takes {context:,} tokens, and data.max_prompt_tokens + rollout.max_response_tokens are "
            f"{longest:,}: prompts that fill it are removed, and responses to long ones end where it ends"
        )
    by_the_day = reads_the_clock(look.tokenizer, data)
    if by_the_day:
        argument = "date_string" if "date_string" in str(look.tokenizer.chat_template) else "what it takes instead"
        lines.append(
            "the chat template writes today's date: tomorrow's prompts, and what is learned from them, are others. "
            f"data.chat_template_arguments fixes it: {argument}, as in {{date_string: 26 Jul 2024}}"
        )
    yield Finding("one row", "warning" if too_long or too_wide or by_the_day else "ok", "\n".join(lines))


def _context(look: Look) -> int:
    """Tokens of prompt and response that the model takes."""
    from fipo.models import context_of

    return context_of(_pinned(look.config.model))


def _first(look: Look) -> tuple[Problem, Prompt]:
    """The first sound row of the training data that the tokenizer has tokens for; DataError where there is none."""
    from fipo.data.schema import ANY_PROBLEM, render, tokenize

    problems = look.problems
    for problem in problems:
        try:
            return problem, tokenize(problem, look.tokenizer, look.config.data)
        except DataError as error:
            render(ANY_PROBLEM, look.tokenizer, look.config.data)  # or it is not the row's fault; it is set aside
            reason = error
    raise DataError(f"data.train: of the first {len(problems)} rows none can be asked: {reason}")


def weights(look: Look) -> Iterator[Finding]:
    """Whether there is a model in safetensors, whole and of the configuration's size as far as its headers say."""
    model = look.config.model
    if model.architecture:
        made = model.architecture
        yield Finding("model", "ok", f"made here: {made.layers} layers of {made.hidden_size}, with random weights")
        return
    model, folder = _pinned(model), Path(model.name_or_path)
    if not folder.is_dir():
        yield Finding("model", "ok", f"{model.name_or_path} on the hub, commit {model.revision[:12]}")
        return
    from fipo.models import check_model
    from fipo.models.folder import check_folder, weight_files

    check_folder(folder)
    files = weight_files(folder)
    if not files:
        others = ", ".join(path.name for path in folder.glob("*.bin")) or "no weights"
        raise ConfigError(
            f"model.name_or_path: {folder} must hold a model in safetensors; it has no *.safetensors, but {others}"
        )
    check_model(model)
    size = sum(path.stat().st_size for path in files)
    yield Finding("model", "ok", f"{folder}: {size / 1e6:,.1f} MB of safetensors")


def _pinned(model: Model) -> Model:
    """The model at the commit that is loaded, which is read from what is kept without asking the hub for every file.

    Raises ConfigError at once where the name is that of a folder, and there is none, or the hub does not give it.
    """
    if not model.name_or_path or Path(model.name_or_path).is_dir():
        return model
    try:
        return model.model_copy(update={"revision": model_commit(model)})
    except ConfigError as error:
        raise ConfigError(f"model.name_or_path: {error}") from error
