"""Models and tokenizers: made, saved, loaded; safetensors only."""

import pytest
import torch
from transformers import AutoTokenizer

from fipo.config import Architecture, Model
from fipo.errors import ConfigError
from fipo.models import load_model, load_tokenizer, save_model

MADE = Model(
    architecture=Architecture(
        vocabulary=("0", "1", "Add", r"\boxed{", "}"), hidden_size=16, intermediate_size=32, attention_heads=2,
        key_value_heads=1,
    )
)  # fmt: skip


def test_the_seed_determines_the_weights():
    one, same, other = (load_model(MADE, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_was_saved_is_loaded(tmp_path):
    model, tokenizer = load_model(MADE, seed=1), load_tokenizer(MADE)
    save_model(model, tokenizer, tmp_path)
    saved = Model(name_or_path=str(tmp_path))
    loaded = load_model(saved).state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in model.state_dict().items())
    assert (tmp_path / "model.safetensors").is_file()
    text = r"1 0 \boxed{ 1 }"
    for again in (load_tokenizer(saved), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(text).input_ids == tokenizer(text).input_ids == [3, 2, 5, 3, 6]
        assert again.decode(tokenizer(text).input_ids) == text
        assert (again.pad_token_id, again.eos_token_id) == (0, 1)


def test_a_longer_context_stays_with_the_model(tmp_path):
    save_model(load_model(MADE), load_tokenizer(MADE), tmp_path / "short")
    longer = load_model(Model(name_or_path=str(tmp_path / "short"), max_position_embeddings=1024))
    assert longer.config.max_position_embeddings == 1024
    save_model(longer, load_tokenizer(MADE), tmp_path / "long")
    again = load_model(Model(name_or_path=str(tmp_path / "long")))
    assert again.config.max_position_embeddings == 1024
    ids = torch.tensor([[2, 3, 4] * 200])
    assert torch.equal(again(ids).logits, longer(ids).logits)


def test_pickled_weights_are_refused(tmp_path):
    model, tokenizer = load_model(MADE), load_tokenizer(MADE)
    save_model(model, tokenizer, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"model\.name_or_path.*safetensors"):
        load_model(Model(name_or_path=str(tmp_path)))


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_folder_that_is_not_there_is_named(load, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.name_or_path.*nowhere"):
        load(Model(name_or_path=str(tmp_path / "nowhere")))


def test_repeated_words_are_refused():
    with pytest.raises(ConfigError, match="vocabulary"):
        load_tokenizer(Model(architecture=Architecture(vocabulary=("a", "a"))))
