"""Tokenizers and models: loaded from a name or folder, or made from a recipe's architecture. Safetensors only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from fipo.config import Architecture, Model
from fipo.errors import ConfigError

if TYPE_CHECKING:  # the model classes take seconds to import, and data preparation needs none
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, Qwen3Config

# Loading a model is quick next to training it; the bars of many ranks hide what matters.
logging.disable_progress_bar()

PAD, END = "<pad>", "<end>"


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of `model.name_or_path`, or a word-level one over the architecture's vocabulary.

    Raises:
        ConfigError: the model cannot be found or its tokenizer has no end-of-sequence token.
    """
    if model.architecture:
        return _word_tokenizer(model.architecture)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, revision=model.revision or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name_or_path: no tokenizer at {model.name_or_path!r}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"model.name_or_path: the tokenizer of {model.name_or_path!r} has no end-of-sequence token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model_config(model: Model) -> PreTrainedConfig:
    """The configuration of `model.name_or_path`, or of the architecture.

    Raises:
        ConfigError: the model cannot be found.
    """
    from transformers import AutoConfig

    if model.architecture:
        return _qwen3_config(model.architecture)
    try:
        return AutoConfig.from_pretrained(model.name_or_path, revision=model.revision or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name_or_path: no configuration at {model.name_or_path!r}: {error}") from error


def load_model(model: Model, *, seed: int = 0, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model on the CPU in `dtype` (float32): `model.name_or_path`, or random weights determined by `seed`.

    Raises:
        ConfigError: the model cannot be found or has no safetensors weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

    dtype = dtype or torch.float32
    if model.architecture:
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(_qwen3_config(model.architecture)).to(dtype)
    longer = {"max_position_embeddings": model.max_position_embeddings} if model.max_position_embeddings else {}
    try:
        return AutoModelForCausalLM.from_pretrained(
            model.name_or_path, revision=model.revision or None, dtype=dtype, use_safetensors=True, **longer
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name_or_path: no safetensors model at {model.name_or_path!r}: {error}") from error


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a folder that `from_pretrained` loads; `state_dict` replaces the model's own (gathered under ZeRO-3)."""
    model.save_pretrained(directory, state_dict=state_dict, safe_serialization=True)
    tokenizer.save_pretrained(directory)


def _word_tokenizer(architecture: Architecture) -> PreTrainedTokenizerFast:
    words = [PAD, END, *architecture.vocabulary]
    if len(set(words)) != len(words):
        raise ConfigError(f"model.architecture.vocabulary: words must differ from each other and from {PAD}, {END}")
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


def _qwen3_config(architecture: Architecture) -> Qwen3Config:
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(architecture.vocabulary) + 2,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.attention_heads,
        num_key_value_heads=architecture.key_value_heads,
        head_dim=architecture.hidden_size // architecture.attention_heads,
        max_position_embeddings=architecture.max_position_embeddings,
        tie_word_embeddings=architecture.tie_word_embeddings,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
