"""An instruct model of SmolLM2's kind, small and untrained: Llama, tied embeddings, byte-level BPE, a chat template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "Ann has 12 pens and buys 3 more. How many pens does she have?",
    "Reason step by step, and put the final answer into \\boxed{}.",
    "12 + 3 = 15. The answer is \\boxed{15}.",
    "user assistant system",
]


def make(folder: Path) -> Path:
    """Write the model, the same every time; returns the folder."""
    words = Tokenizer(BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(TEXT * 4, BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet))
    # As the real one: a sequence ends with the first token, a turn with the last.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=SPECIAL[0], pad_token=SPECIAL[0])
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        eos_token_id=0,
        bos_token_id=1,
        tie_word_embeddings=True,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=8192,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
