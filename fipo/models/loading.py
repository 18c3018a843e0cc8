"""Tokenizers and models: loaded from a name or folder, or made from a recipe's architecture. Safetensors only."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models.folder import check_folder, check_size
from fipo.models.stops import Stops, ids_of, stops_of

if TYPE_CHECKING:  # the model classes and the Auto classes bring torch, seconds that data preparation may do without
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, Qwen3Config

# Loading a model is quick next to training it; the bars of many ranks hide what matters.
logging.disable_progress_bar()

PAD, END = "<pad>", "<end>"


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of `model.name_or_path`, or a word-level one over the architecture's vocabulary.

    Raises:
        ConfigError: the model cannot be found, its tokenizer has no end-of-sequence token or has tokens that the
            model has no embedding for.
    """
    if model.architecture:
        return _word_tokenizer(model.architecture)
    from transformers import AutoTokenizer

    with _named("no tokenizer", model):
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, **_origin(model))
    name = f"model.name_or_path: the tokenizer of {model.name_or_path!r}"
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{name} has no end-of-sequence token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    largest, embedded = max(tokenizer.get_vocab().values()), load_model_config(model).get_text_config().vocab_size
    if largest >= embedded:
        raise ConfigError(f"{name} has tokens up to {largest}; the model embeds {embedded}, up to {embedded - 1}")
    return tokenizer


def load_model_config(model: Model) -> PreTrainedConfig:
    """The configuration of `model.name_or_path`, or of the architecture.

    Raises:
        ConfigError: the model cannot be found, or needs code of its own.
    """
    from transformers import AutoConfig

    if model.architecture:
        return _qwen3_config(model.architecture)
    with _named("no configuration", model):
        config: PreTrainedConfig = AutoConfig.from_pretrained(model.name_or_path, **_origin(model))
    return config


def positions_of(config: PreTrainedConfig) -> int:
    """Tokens that a sequence may have. A model without positions (ALiBi, state spaces) sets no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def load_model(
    model: Model, *, seed: int = 0, dtype: torch.dtype | None = None, stored: bool = False
) -> PreTrainedModel:
    """The model on the CPU in `dtype` (float32): `model.name_or_path`, or random weights determined by `seed`.

    With `stored` the weights are in the precision of their files, and stay there: what is read is shared by all
    processes of a machine. (safetensors maps files into memory.)

    Raises:
        ConfigError: the model cannot be found, has no safetensors weights, or they are damaged, incomplete, of another
            shape than its configuration says, or not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

    from fipo.models.precision import place

    dtype = dtype or torch.float32
    if model.architecture:
        torch.manual_seed(seed)
        return place(Qwen3ForCausalLM(_qwen3_config(model.architecture)), dtype)
    longer = {"max_position_embeddings": model.max_position_embeddings} if model.max_position_embeddings else {}
    with _named("no safetensors model", model):
        if Path(model.name_or_path).is_dir():
            check_size(load_model_config(model), Path(model.name_or_path))
        found: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(  # type: ignore[assignment]
            model.name_or_path,
            **_origin(model),
            dtype="auto" if stored else dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are reported below, and by name
            output_loading_info=True,  # which makes the result a pair
            **longer,
        )
    loaded, report = found
    wrong = {"of another shape": report["mismatched_keys"], "missing": report["missing_keys"]}
    for what, keys in wrong.items():
        if keys:  # transformers would make them up
            first, *shapes = min(keys) if what == "of another shape" else (min(keys),)
            first += f", {' for '.join(str(tuple(shape)) for shape in shapes)}" if shapes else ""
            raise ConfigError(
                f"model.name_or_path: the weights of {model.name_or_path!r} must be those that its config.json tells "
                f"of; {len(keys)} are {what}, such as {first}"
            )
    for name, weight in loaded.named_parameters():
        if not torch.isfinite(weight.sum(dtype=torch.float32)):  # no mask of all of them: one pass, and no memory
            raise ConfigError(
                f"model.name_or_path: the weights of {model.name_or_path!r} must be finite numbers; {name} holds NaN "
                "or infinity, as a training that diverged leaves it"
            )
    return loaded


def load_stops(model: Model, tokenizer: PreTrainedTokenizerBase) -> Stops:
    """The tokens that end a response of the model."""
    if model.architecture:  # made with its tokenizer, whose end is its only one; its configuration would bring torch
        return stops_of(tokenizer, None, None)
    from transformers import GenerationConfig

    config = load_model_config(model)
    try:
        generation = GenerationConfig.from_pretrained(model.name_or_path, revision=model.revision or "main")
    except (OSError, ValueError):  # many models have none
        generation = None
    return stops_of(tokenizer, config, generation)


@contextmanager
def _named(what: str, model: Model) -> Iterator[None]:
    """Whatever is wrong with the files is the user's to mend: transformers raises what it happens on."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error)
        if "trust_remote_code" in reason:
            reason = "it needs code of its own, which fipo does not run (auto_map in its configuration)"
        raise ConfigError(f"model.name_or_path: {what} at {model.name_or_path!r}: {reason}") from error


def _origin(model: Model) -> dict[str, Any]:
    """Which revision is loaded; no code from there is run, and nobody is asked whether it may.

    Raises:
        ConfigError: it is a folder that `check_folder` refuses.
    """
    if Path(model.name_or_path).is_dir():
        check_folder(Path(model.name_or_path))
    return {"revision": model.revision or None, "trust_remote_code": False}


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that `from_pretrained` loads; `state_dict` replaces the model's own (gathered under ZeRO-3).

    Its parameters are rounded to `dtype`, if that is given; buffers stay. Its generation configuration names every
    token that ends a response, for engines that obey nothing else.
    """
    if dtype and dtype is not model.dtype:
        state_dict = _rounded(model, state_dict or model.state_dict(), dtype)
    if (generation := model.generation_config) is not None:
        stops = stops_of(tokenizer, model.config, generation)
        if {*stops.ids} != {*ids_of(generation.eos_token_id)}:
            generation.eos_token_id = list(stops.ids)
    model.save_pretrained(directory, state_dict=state_dict, safe_serialization=True)
    if dtype and dtype is not model.dtype:  # the configuration was written with that of the model in memory
        config = copy.deepcopy(model.config)
        config.dtype = dtype
        config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _rounded(
    model: PreTrainedModel, state_dict: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The same with its parameters in `dtype`; tied ones, of one memory, stay tied, or they would be saved twice."""
    names = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters(remove_duplicate=False)}
    made: dict[int, torch.Tensor] = {}
    result = {}
    for name, tensor in state_dict.items():
        if name in names:
            tensor = made.setdefault(tensor.data_ptr(), tensor.to(dtype))
        result[name] = tensor
    return result


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
