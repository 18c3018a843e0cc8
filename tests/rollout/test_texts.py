"""Which characters each token stands for, by the tokenizers that the world uses: words, bytes, SentencePiece."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fipo.config import Architecture, Model
from fipo.models import load_tokenizer
from fipo.rollout.texts import TokenTexts

CORPUS = ["the answer is 42, so add 7", "und die Antwort: 49", "so 7 + 42 = 49"]


def bytes_():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def sentencepiece():
    """As Llama 2's: spaces are letters, a character outside of the vocabulary is bytes, the first space is nobody's."""
    alphabet = sorted(set("".join(CORPUS)) - {" "} | {"▁"})
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    made = Tokenizer(models.BPE({one: at for at, one in enumerate(words)}, [], byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


def words():
    return load_tokenizer(Model(architecture=Architecture(vocabulary=("42", "is", "so", "七"))))


@pytest.mark.parametrize("make", [bytes_, sentencepiece])
@pytest.mark.parametrize("text", ["the answer is 42", "so 7\n\nadd  two", "七と🙂🏽, é: 49", "🙂", "", "\u202e7"])
def test_tokens_spell_the_response(make, text):
    tokenizer = make()
    ids = np.array(tokenizer(text, add_special_tokens=False).input_ids, np.int32)
    split = TokenTexts(tokenizer).split(ids)
    assert "".join(split) == text == tokenizer.decode(ids) and len(split) == len(ids)


def test_a_word_has_the_space_before_it():
    tokenizer = words()
    assert TokenTexts(tokenizer).split(np.array(tokenizer("is 42 七").input_ids)) == ["is", " 42", " 七"]


def test_an_emoji_is_its_first_tokens():
    tokenizer = bytes_()
    ids = np.array([*tokenizer("7🙂42").input_ids, tokenizer.eos_token_id], np.int32)
    assert TokenTexts(tokenizer).split(ids) == ["7", "🙂", "", "", "", *TokenTexts(tokenizer).split(ids[5:])]
    assert TokenTexts(tokenizer).split(ids)[-1] == "<|end|>", "special tokens are shown"


def test_bytes_that_are_no_text_keep_their_number():
    tokenizer = bytes_()
    (byte,) = tokenizer("🙂").input_ids[1:2]
    assert len(TokenTexts(tokenizer).split(np.full(3000, byte, np.int32))) == 3000


def test_a_response_cut_inside_a_character_keeps_its_tokens():
    tokenizer = bytes_()
    ids = np.array(tokenizer("7🙂").input_ids[:-1], np.int32)
    split = TokenTexts(tokenizer).split(ids)
    assert len(split) == len(ids) and split[0] == "7" and set("".join(split[1:])) == {"\ufffd"}
