"""The folder that a server is given: the model's files, and beside them how the model was asked in training.

Servers know chat templates and generation settings, not fipo's: so `data.prompt_template` and `data.chat` become a chat
template, `evaluation` and `rollout.max_response_tokens` the settings of generation. A chat request with a problem then
asks the model as training did.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fipo.config import Config, Data, Model, load_config
from fipo.data.schema import render
from fipo.errors import ConfigError
from fipo.models import load_tokenizer
from fipo.release.registry import SETTINGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEVER_SERVED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py"}
"""Weights that can hold programs, and programs."""


def settings_of(folder: Path) -> Config | None:
    """Those of the run that the model comes from, where they are beside it."""
    return load_config(folder / SETTINGS) if (folder / SETTINGS).is_file() else None


def origin(folder: Path) -> Path:
    """The model's own folder, of one that was laid out."""
    return (folder / "config.json").readlink().parent


def served_name(name: str) -> str:
    """What requests call the model, as servers take it.

    Raises:
        ConfigError: it has other characters, such as those of a path.
    """
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ConfigError(f"--name: must be of letters, digits and ._- for servers to take it; got {name!r}")
    return name


def lay_out(model: Path, folder: Path) -> None:
    """Fill `folder` for a server: links to the files of `model`, and its own templates and generation settings.

    Raises:
        ConfigError: there are no safetensors weights in `model`, or no tokenizer.
        DataError: `data.chat` was set, and the tokenizer has no chat template.
    """
    if not any(model.glob("*.safetensors")):
        raise ConfigError(f"{model}: must be the folder of a model in safetensors; it has no *.safetensors")
    folder.mkdir(parents=True)
    for file in model.iterdir():
        if file.is_file() and file.suffix not in NEVER_SERVED:
            (folder / file.name).symlink_to(file.absolute())
    settings = settings_of(model)
    if settings is None:
        return
    tokenizer = load_tokenizer(Model(name_or_path=str(model)))
    _replace(folder / "chat_template.jinja", chat_template(tokenizer, settings.data))
    _replace(folder / "generation_config.json", json.dumps(_generation(folder, settings), indent=1))
    if not settings.data.chat:
        own = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        own = {key: value for key, value in own.items() if key != "chat_template"}
        own["response_template"] = _whole_response(tokenizer)
        _replace(folder / "tokenizer_config.json", json.dumps(own, indent=1))


def chat_template(tokenizer: PreTrainedTokenizerBase, data: Data) -> str:
    """Jinja that renders a message as `fipo.data.schema.render` and `encode` render a problem.

    Without `data.chat` the last message is the problem and the others are left out: the model knows no conversation.

    Raises:
        DataError: `data.chat` is set and the tokenizer has no chat template.
    """
    around = data.prompt_template.split("{prompt}")
    if not data.chat:
        # Servers add no special tokens to what a chat template gives: what the tokenizer puts in front is text here.
        around[0] = str(tokenizer.decode(tokenizer("")["input_ids"])) + around[0]
        return f"{{{{ {_joined(around, 'messages[-1].content')} }}}}"
    render("", tokenizer, data)
    own = _told(data) + str(tokenizer.chat_template)
    if data.prompt_template == "{prompt}":
        return own
    asked = _joined(around, "message.content")
    return (
        "{%- set asked = namespace(messages=[]) -%}{%- for message in messages -%}"
        f"{{%- set message = dict(message, content={asked}) if message.role == 'user' else message -%}}"
        "{%- set asked.messages = asked.messages + [message] -%}{%- endfor -%}{%- set messages = asked.messages -%}"
        f"{own}"
    )


def _told(data: Data) -> str:
    """Jinja that gives the model's template what training gave it, where a request does not say otherwise."""
    told = [
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {value!r} -%}}{{%- endif -%}}"
        for name, value in data.chat_template_arguments.items()
    ]
    if data.system_prompt:
        system = json.dumps(data.system_prompt, ensure_ascii=False)
        told.append(
            "{%- if messages[0].role != 'system' -%}{%- set messages = "
            f"[{{'role': 'system', 'content': {system}}}] + messages -%}}{{%- endif -%}}"
        )
    return "".join(told)


def _joined(texts: list[str], variable: str) -> str:
    """A Jinja expression: the texts with the variable between them. Jinja reads strings as JSON writes them."""
    return f" ~ {variable} ~ ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _generation(folder: Path, settings: Config) -> dict[str, Any]:
    """The model's own settings of generation, sampled as it was evaluated and as long as it was trained."""
    path, evaluation = folder / "generation_config.json", settings.evaluation
    own = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        **own,
        "do_sample": evaluation.temperature > 0,
        "temperature": evaluation.temperature,
        "top_p": evaluation.top_p,
        "top_k": 0,
        "max_new_tokens": settings.rollout.max_response_tokens,
    }


def _whole_response(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that follows the prompt is the answer; transformers' server would else look for the marks of Qwen's chats."""
    content = {"close_pattern": rf"\s*{re.escape(str(tokenizer.eos_token))}", "content": "text"}
    return {"defaults": {"role": "assistant"}, "start_anchor_pattern": r"\Z", "fields": {"content": content}}


def _replace(path: Path, text: str) -> None:
    """Write our own file where a link to the model's stood."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
