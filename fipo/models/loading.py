"""Tokenizers and models: loaded from a name or folder, or made from a recipe's architecture. Safetensors only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models.folder import GENERATION, check_folder, check_layers, refuse_quantized
from fipo.models.stops import Stops, stops_of

if TYPE_CHECKING:  # the model classes and the Auto classes bring torch, seconds that data preparation may do without
    import torch
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, Qwen3Config

# Loading a model is quick next to training it; the bars of many ranks hide what matters.
logging.disable_progress_bar()
# What did not fit is told in a sentence, and not in a table before it; what could not be converted is in that alone.
getLogger("transformers.modeling_utils").addFilter(
    lambda record: "LOAD REPORT" not in (text := record.getMessage()) or "CONVERSION" in text
)

PAD, END = "<pad>", "<end>"

_RETURNED: dict[str, Any] = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
"""What a pass gives besides logits is for the caller to ask, whatever a config.json says."""

_logger = getLogger(__name__)


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of `model.name_or_path`, or a word-level one over the architecture's vocabulary.

    Raises:
        ConfigError: the model cannot be found, its tokenizer has no end-of-sequence token or has tokens that the
            model has no embedding for.
    """
    if model.architecture:
        return _word_tokenizer(model.architecture)
    from transformers import AutoTokenizer

    config = load_model_config(model)
    with _named("no configuration", model):
        embedded = config.get_text_config().vocab_size
    with _named("no tokenizer", model):
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, **_origin(model))
    name = f"model.name_or_path: the tokenizer of {model.name_or_path!r}"
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{name} has no end-of-sequence token: name it as eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    vocabulary = tokenizer.get_vocab()
    last = max(vocabulary, key=lambda token: vocabulary[token])
    if vocabulary[last] >= embedded:
        raise ConfigError(
            f"{name} has tokens up to {vocabulary[last]}; the model embeds {embedded}, up to {embedded - 1}: take the "
            f"tokenizer that was made for the model. {last!r} is the last, perhaps one that tokenizer_config.json adds"
        )
    return tokenizer


def load_model_config(model: Model) -> PreTrainedConfig:
    """The configuration of `model.name_or_path`, or of the architecture.

    Raises:
        ConfigError: the model cannot be found, needs code of its own, or is quantized.
    """
    from transformers import AutoConfig

    if model.architecture:
        return _qwen3_config(model.architecture)
    with _named("no configuration", model):
        config: PreTrainedConfig = AutoConfig.from_pretrained(model.name_or_path, **_origin(model))
    refuse_quantized(model.name_or_path, getattr(config, "quantization_config", None))
    return config


def check_model(model: Model) -> None:
    """Rehearse the loading of a folder, of whose weights the headers alone are read and for which no memory is taken.

    Raises:
        ConfigError: as `load_model`, but for what the numbers tell: that they are finite, and the head is tied.
    """
    config = load_model_config(model)
    folder = Path(model.name_or_path)
    with _named("no safetensors model", model):
        if folder.is_dir():
            check_layers(config, folder)
            _loaded(model, device_map="meta")


def positions_of(config: PreTrainedConfig) -> int:
    """Tokens that a sequence may have. A model without positions (ALiBi, state spaces) sets no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def context_of(model: Model) -> int:
    """`positions_of` the model that is loaded; of an architecture without a configuration's imports.

    Raises:
        ConfigError: as `load_model_config`.
    """
    if model.architecture:
        return model.architecture.max_position_embeddings
    return model.max_position_embeddings or positions_of(load_model_config(model))


def load_model(
    model: Model, *, seed: int = 0, dtype: torch.dtype | None = None, stored: bool = False
) -> PreTrainedModel:
    """The model on the CPU in `dtype` (float32): `model.name_or_path`, or random weights determined by `seed`.

    With `stored` the weights are in the precision of their files, and stay there: what is read is shared by all
    processes of a machine. (safetensors maps files into memory.)

    Raises:
        ConfigError: the model cannot be found, has no safetensors weights, or they are damaged, incomplete, of another
            shape than its configuration says, not finite, quantized, or have an adapter or a head of two kinds.
    """
    import torch
    from transformers import Qwen3ForCausalLM

    from fipo.models.precision import place

    dtype = dtype or torch.float32
    if model.architecture:
        torch.manual_seed(seed)
        return place(Qwen3ForCausalLM(_qwen3_config(model.architecture)), dtype)
    check_model(model)
    with _named("no safetensors model", model):
        loaded, unread = _loaded(model, dtype="auto" if stored else dtype)
        _check_whole(loaded, model)
    if unread:
        _logger.warning(
            "%s: %d tensors of its files are no part of it, such as %s: they are neither trained nor saved",
            *(model.name_or_path, len(unread), min(unread)),
        )
    for name, weight in loaded.named_parameters():
        if not torch.isfinite(weight.sum(dtype=torch.float32)):  # no mask of all of them: one pass, and no memory
            raise ConfigError(
                f"model.name_or_path: the weights of {model.name_or_path!r} must be finite numbers; {name} holds NaN "
                "or infinity, as a training that diverged leaves it"
            )
    return loaded


def _loaded(model: Model, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """The model with all of its weights, and the names of tensors that are no part of it."""
    from transformers import AutoModelForCausalLM

    if model.max_position_embeddings:
        options["max_position_embeddings"] = model.max_position_embeddings
    found: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(  # type: ignore[assignment]
        model.name_or_path,
        **_origin(model),
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # they are reported below, and by name
        output_loading_info=True,  # which makes the result a pair
        **_RETURNED,
        **options,
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
    return loaded, set(report["unexpected_keys"])


def _check_whole(loaded: PreTrainedModel, model: Model) -> None:
    """Refuse what transformers makes of some folders: a model with an adapter in it, or one whose head was tied."""
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise ConfigError(
            f"model.name_or_path: {model.name_or_path!r} holds an adapter (adapter_config.json); merge it into the "
            "weights (peft's merge_and_unload)"
        )
    head, embeddings = loaded.get_output_embeddings(), loaded.get_input_embeddings()
    tied = loaded.config.get_text_config().tie_word_embeddings and getattr(loaded, "_tied_weights_keys", None)
    if tied and head is not None and head.weight is not embeddings.weight:
        raise ConfigError(
            f"model.name_or_path: config.json of {model.name_or_path!r} ties the LM head to the embeddings "
            "(tie_word_embeddings), and the weights hold another head. Engines take one or the other: set it to false, "
            "or remove the head's weight"
        )


def load_stops(model: Model, tokenizer: PreTrainedTokenizerBase) -> Stops:
    """The tokens that end a response of the model.

    Raises:
        ConfigError: a configuration cannot be read, or names no tokens of the model.
    """
    if model.architecture:  # made with its tokenizer, whose end is its only one; its configuration would bring torch
        return stops_of(tokenizer, None, None)
    return stops_of(tokenizer, load_model_config(model), load_generation_config(model))


def load_generation_config(model: Model) -> GenerationConfig | None:
    """Its `generation_config.json`; None without, as many models are.

    Raises:
        ConfigError: it cannot be read.
    """
    from transformers import GenerationConfig

    try:
        with _named(f"no {GENERATION}", model, unless=OSError):
            return GenerationConfig.from_pretrained(model.name_or_path, revision=model.revision or "main")
    except OSError:
        return None


@contextmanager
def _named(what: str, model: Model, unless: type[Exception] = ConfigError) -> Iterator[None]:
    """Whatever is wrong with the files is the user's to mend: transformers raises what it happens on."""
    try:
        yield
    except (ConfigError, unless):
        raise
    except Exception as error:
        reason = str(error) if not isinstance(error, KeyError) else f"{error} is missing, or transformers knows no such"
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
