"""What a model is like, from its files or its name; nothing is loaded."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.config import Lora, Model
from fipo.errors import ConfigError

if TYPE_CHECKING:
    from fipo.planning.model import ModelShape

DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Small enough for a laptop, and it knows conversations."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model to start from."""

    name: str
    """As the recipe has it: a folder relative to it, or a name of the hub."""
    chat: bool
    """Whether it has a chat template, or its name says so."""

    def describe(self) -> str:
        """For people."""
        return f"{self.name}, {'asked in its chat template' if self.chat else 'asked in plain text'}"


def look_at_model(name: str, folder: Path) -> FoundModel:
    """What is known of the model.

    Raises:
        ConfigError: it is the name of a folder, and there is none.
    """
    place = Path(name or DEFAULT).expanduser()
    if place.is_dir():
        relative = os.path.relpath(place, folder)
        return FoundModel(relative if relative.startswith(".") else f"./{relative}", _has_template(place))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(f"--model {name!r}: there is no such folder")
    return FoundModel(str(place), bool(re.search(r"instruct|chat|-it\b", str(place), re.IGNORECASE)))


def shapes_of(model: Model) -> dict[bool, ModelShape]:
    """Its sizes without and with an adapter, from its `config.json` here or on the hub.

    Raises:
        ConfigError: there is none, the hub does not answer within ten seconds, or it is no dense decoder.
    """
    from fipo.inputs.external import model_commit
    from fipo.planning.model import shape_of

    if not Path(model.name_or_path).is_dir():
        model_commit(model)
    return {
        rank > 0: shape_of(model.model_copy(update={"lora": Lora(rank=rank) if rank else None})) for rank in (0, 32)
    }


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(told.get("chat_template"))
