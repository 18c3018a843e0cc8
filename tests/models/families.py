"""Tiny models with random weights of the families that people train."""

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SOME_WINDOWS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2, a window in the last layer": (
        "Qwen2",
        {"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "qwen3-moe": ("Qwen3Moe", {"head_dim": 8, **EXPERTS}),
    "llama": ("Llama", {"attention_bias": True}),
    "mistral": ("Mistral", {"sliding_window": 9}),
    "mixtral": ("Mixtral", {"sliding_window": 5, **LOCAL_EXPERTS}),
    "gemma2": (
        "Gemma2",
        {"head_dim": 8, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0, **SOME_WINDOWS},
    ),
    "gemma3": ("Gemma3", {"head_dim": 8, **SOME_WINDOWS}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {"sliding_window": 6}),
    "phi4": ("Phi3", {"partial_rotary_factor": 0.5}),
    "granite": ("Granite", {"logits_scaling": 5.0, "residual_multiplier": 0.4, "embedding_multiplier": 3.0}),
    "granite-moe": ("GraniteMoe", {"logits_scaling": 3.0, **LOCAL_EXPERTS}),
    "cohere": ("Cohere", {"logit_scale": 0.3}),
    "cohere2": ("Cohere2", {"logit_scale": 0.3, **SOME_WINDOWS}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", SOME_WINDOWS),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0]}),
    "glm4": ("Glm4", {"head_dim": 8}),
    "exaone4": ("Exaone4", SOME_WINDOWS),
    "starcoder2": ("Starcoder2", {"sliding_window": 11}),
    "gpt-oss": ("GptOss", {"head_dim": 8, **LOCAL_EXPERTS, **SOME_WINDOWS}),
    "gptj": ("GPTJ", {"rotary_dim": 8}),
    "stablelm": ("StableLm", {}),
    "nemotron": ("Nemotron", {}),
}
"""Class prefix and settings. Windows are shorter than the rows of the tests."""


def build(family, seed=0, **settings):
    """In evaluation mode. Weights are large, and biases not zero, so that whatever is left out shows."""
    prefix, own = FAMILIES[family]
    config = getattr(transformers, f"{prefix}TextConfig" if prefix == "Gemma3" else f"{prefix}Config")
    torch.manual_seed(seed)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config(**{**COMMON, **own, **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.25)
    return model


def tokenizer_of(words):
    """`<pad>`, `<end>`, and words up to that number."""
    model = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1, **{f"w{index}": index for index in range(2, words)}}))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", eos_token="<end>")
