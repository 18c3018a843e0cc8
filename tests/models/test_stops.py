"""Stop tokens: one set from tokenizer, configurations and chat template, in every engine."""

import json

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fipo.config import Model, load_config
from fipo.errors import DataError
from fipo.models import load_model, load_stops, load_tokenizer, save_model
from fipo.models.stops import stops_of
from fipo.rollout.factory import open_engine

WORDS = ["<pad>", "</s>", "<|turn|>", "<|end|>", "<|tool|>", "user", "assistant", "6", "*", "7", "?", "42", ":"]
CHATML = (
    "{% for m in messages %}<|turn|> {{ m.role }} : {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|turn|> assistant :{% endif %}"
)


def tokenizer_of(template=None, eos="</s>"):
    model = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="?"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", eos_token=eos)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|end|>", "<|tool|>"]})
    tokenizer.chat_template = template
    return tokenizer


def config_of(**settings):
    return LlamaConfig(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0, bos_token_id=None, **{"eos_token_id": 1, **settings},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("template", "config", "generation", "ids", "end_of_turn"),
    [
        (None, 1, None, (1,), None),
        (None, 1, [1, 4], (1, 4), None),
        (None, [1, 3], 4, (1, 3, 4), None),
        (CHATML, 1, None, (1, 3), 3),
        (CHATML, 1, [3, 4], (1, 3, 4), 3),
        ("{% for m in messages %}{{ m.content }} </s> {% endfor %}", 1, 1, (1,), 1),
        ("{% for m in messages %}<|turn|> {{ m.content }} {% endfor %}", 1, 1, (1,), None),
        ("{{ raise_exception('only questions') if messages | length > 1 }}", 1, 1, (1,), None),
    ],
)
def test_one_set_of_all_that_is_said(template, config, generation, ids, end_of_turn):
    said = None if generation is None else GenerationConfig(eos_token_id=generation)
    stops = stops_of(tokenizer_of(template), config_of(eos_token_id=config), said)
    assert (stops.ids, stops.end_of_turn) == (ids, end_of_turn)
    assert stops.after(chat=True) == (end_of_turn or 1) and stops.after(chat=False) == 1


def test_their_names_are_shown():
    assert stops_of(tokenizer_of(CHATML), config_of(), None).names(tokenizer_of()) == "</s>, <|end|>"


def test_a_prompt_that_is_ended_is_refused():
    tokenizer = tokenizer_of()
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    stops = stops_of(tokenizer, config_of(), None)
    with pytest.raises(DataError, match=r"ends it with </s>.*add_eos_token"):
        stops.check_prompt(tokenizer("6 * 7").input_ids, tokenizer)
    stops.check_prompt(tokenizer("6 * 7", add_special_tokens=False).input_ids, tokenizer)


def test_engines_and_servers_are_given_the_same_set(tmp_path):
    """The embedded engine stops at every one, and what is saved tells other engines of them."""
    model = LlamaForCausalLM(config_of())
    model.generation_config = GenerationConfig(eos_token_id=[1, 4], pad_token_id=0)
    save_model(model, tokenizer_of(CHATML), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [1, 3, 4]
    saved = Model(name_or_path=str(tmp_path))
    tokenizer = load_tokenizer(saved)
    assert load_stops(saved, tokenizer).ids == (1, 3, 4)
    loaded = load_model(saved)
    engine = open_engine(
        load_config("demo"), tmp_path, tokenizer, dtype=loaded.dtype, device=loaded.device, rank=0, trained=loaded
    )
    assert engine.stop_ids == {1, 3, 4}


def test_a_set_that_is_there_already_is_saved_as_it_was(tmp_path):
    save_model(LlamaForCausalLM(config_of()), tokenizer_of(), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 1
