"""Models and tokenizers: loaded or made, their heads and precision, where they stop, and what admits them."""

from fipo.models.loading import (
    check_model,
    context_of,
    load_model,
    load_model_config,
    load_stops,
    load_tokenizer,
    positions_of,
)
from fipo.models.saving import save_model

__all__ = [
    "check_model",
    "context_of",
    "load_model",
    "load_model_config",
    "load_stops",
    "load_tokenizer",
    "positions_of",
    "save_model",
]
