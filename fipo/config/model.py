"""The model to start from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fipo.config.base import Role, Section, require
from fipo.uris import check_address


class Architecture(Section):
    """A small Qwen3 made from scratch, with a word-level tokenizer."""

    vocabulary: tuple[str, ...] = Field(min_length=2)
    """The words of the tokenizer, separated by blanks in the text."""
    hidden_size: int = Field(128, ge=8)
    """Width of the residual stream."""
    intermediate_size: int = Field(512, ge=8)
    """Width of the feed-forward layers."""
    layers: int = Field(2, ge=1)
    """Transformer layers."""
    attention_heads: int = Field(4, ge=1)
    """Query heads of a layer; they share `hidden_size`."""
    key_value_heads: int = Field(4, ge=1)
    """Key/value heads of a layer; fewer than query heads is grouped-query attention."""
    max_position_embeddings: int = Field(256, ge=8)
    """Longest sequence, prompt and response."""
    tie_word_embeddings: bool = True
    """Use the input embeddings as the LM head."""

    @model_validator(mode="after")
    def _heads(self) -> Self:
        require(
            self.hidden_size % self.attention_heads == 0,
            "hidden_size",
            "a multiple of attention_heads",
            self.hidden_size,
        )
        require(
            self.attention_heads % self.key_value_heads == 0,
            "attention_heads",
            "a multiple of key_value_heads",
            self.attention_heads,
        )
        return self


class Lora(Section):
    """A low-rank adapter (arXiv 2106.09685) is trained in place of the model's weights: a layer computes
    W x + alpha / rank * B A x, with W as it was."""

    rank: int = Field(32, ge=1)
    """Rows of A and columns of B. Few are enough for RL; demonstrations may need more."""
    alpha: float = Field(32.0, gt=0.0)
    """Size of the adapter's part: left as it is, one learning rate suits every rank."""
    targets: tuple[str, ...] = ()
    """Linear layers that get an adapter, by the last part of their names: `q_proj`, `down_proj`. Empty is all but the
    head."""


class Model(Section):
    """The model to start from: `name_or_path` or `architecture`."""

    name_or_path: Annotated[str, Role.PLACEMENT] = ""
    """A model of the hub or a local folder, in safetensors."""
    revision: Annotated[str, Role.PLACEMENT] = ""
    """Commit of a hub model; pin it for runs to be comparable."""
    max_position_embeddings: int | None = Field(None, ge=8)
    """Longest sequence, prompt and response, in place of what the loaded model says; null leaves it."""
    architecture: Architecture | None = None
    """Build a model with random weights instead of loading one."""

    lora: Lora | None = None
    """Train a low-rank adapter, in the warm-up and in RL, in place of all weights; null trains them all."""
    published_precision: Literal["auto", "own", "trained"] = "auto"
    """Of the weights that the warm-up and RL publish where they are trained in float32: as the model that they start
    from has them (`own`), as they are `trained`, or `auto`, its own where 90 % of what was learned survives the
    rounding."""

    @field_validator("name_or_path")
    @classmethod
    def _holds_no_credentials(cls, name: str) -> str:
        check_address(name, "HF_TOKEN is taken from the environment")
        return name

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        count = bool(self.name_or_path) + (self.architecture is not None)
        require(count == 1, "name_or_path, architecture", "exactly one of the two", f"{count} given")
        return self
