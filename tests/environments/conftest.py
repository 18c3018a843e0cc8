"""Tokenizers: one of words, and one of bytes with a chat template."""

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from fipo.config import Architecture, Model
from fipo.models import load_stops, load_tokenizer
from fipo.models.stops import stops_of

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = Model(architecture=Architecture(vocabulary=("a", "b", "again", "7", r"\boxed{", "}", "higher", "lower")))


@pytest.fixture(scope="session")
def words():
    """(tokenizer, stops): <pad> 0, <end> 1, a 2, b 3, again 4, ..."""
    tokenizer = load_tokenizer(WORDS)
    return tokenizer, load_stops(WORDS, tokenizer)


def chat_tokenizer(template=CHATML):
    """Bytes, and the special tokens of ChatML; <|endoftext|> is the tokenizer's own end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def chat():
    """(tokenizer, stops)."""
    tokenizer = chat_tokenizer()
    config = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    return tokenizer, stops_of(tokenizer, config, GenerationConfig())
