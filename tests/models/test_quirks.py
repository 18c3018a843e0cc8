"""What stands in folders that people publish: taken as it is meant, or refused by name, before anything is trained."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fipo.config import Model, load_config
from fipo.distributed.attention import use_packed_attention
from fipo.errors import ConfigError, DataError
from fipo.models import load_model, load_model_config, load_stops, load_tokenizer, save_model
from fipo.models.folder import weight_files
from fipo.models.reference import link_model
from tests.published.model import TEMPLATE, make_tiny

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DATA = load_config("demo", ["data.chat=true"]).data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"
    make_tiny(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def change(path, **values):
    tree = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(tree | values))


def load(folder):
    """As the steps do, in their order."""
    model = Model(name_or_path=str(folder))
    tokenizer = load_tokenizer(model)
    return load_model(model), tokenizer, load_stops(model, tokenizer)


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, r"not quantized \(.*: fp8\)"),
        ("config.json", {"quantization_config": {"quant_method": "of our own", "bits": 3}}, "of our own"),
        ("config.json", {"eos_token_id": -1}, r"eos_token_id in config.json must be tokens of the model.*got -1"),
        ("config.json", {"hidden_act": "swosh"}, "'swosh' is missing, or transformers knows no such"),
        ("config.json", {"max_position_embeddings": "512"}, "no configuration at .*max_position_embeddings"),
        ("generation_config.json", {"eos_token_id": [2, 70_000]}, r"0 to 399; got 70000"),
        ("generation_config.json", {"eos_token_id": "<|im_end|>"}, r"got '<\|im_end\|>'"),
        ("generation_config.json", {"eos_token_id": [True]}, r"got True"),
        ("generation_config.json", {"num_beams": 1, "num_return_sequences": 4}, "num_return_sequences"),
        ("tokenizer_config.json", {"eos_token": None}, "name it as eos_token in tokenizer_config.json"),
        ("tokenizer_config.json", {"pad_token": "[PAD]"}, r"'\[PAD\]' is the last"),
        ("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "an/other"}, "adapter of 'an/other'"),
    ],
)
def test_what_cannot_be_trained_is_named(folder, file, values, says):
    change(folder / file, **values)
    with pytest.raises(ConfigError, match=rf"^model\.name_or_path: .*{says}"):
        load(folder)


def test_a_damaged_generation_configuration_is_named(folder):
    """Passed over, the tokens that end a response would be too."""
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2')
    with pytest.raises(ConfigError, match=r"generation_config\.json cannot be read"):
        load(folder)


def test_a_token_without_a_name_ends_a_response(folder):
    """A model may embed more rows than its tokenizer has tokens, and name one of them."""
    weights = load_file(folder / WEIGHTS)
    weights["model.embed_tokens.weight"] = torch.randn(448, 48)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    change(folder / "config.json", vocab_size=448)
    change(folder / "generation_config.json", eos_token_id=[2, 440])
    _, tokenizer, stops = load(folder)
    assert stops.names(tokenizer) == "<|im_end|>, token 440"


@pytest.mark.parametrize("asked", ["output_attentions", "output_hidden_states", "return_dict"])
def test_what_a_pass_returns_is_for_us_to_say(folder, tmp_path, asked):
    """Such a model trained, and could not be asked, or saved at the end."""
    change(folder / "config.json", **{asked: asked != "return_dict"})
    model, tokenizer, _ = load(folder)
    assert use_packed_attention(model)
    save_model(model, tokenizer, tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved")[0].lm_head.weight, model.lm_head.weight)


def test_a_head_that_is_tied_and_another_is_refused(folder):
    """transformers takes the head; vLLM, told by the same files, the embeddings."""
    weights = load_file(folder / WEIGHTS)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 1.5
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="ties the LM head"):
        load(folder)
    change(folder / "config.json", tie_word_embeddings=False)
    assert torch.equal(load(folder)[0].lm_head.weight, weights["lm_head.weight"].float())


def test_a_tied_head_may_be_in_the_files_too(folder):
    weights = load_file(folder / WEIGHTS)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    model = load(folder)[0]
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_an_adapter_that_the_hub_serves_beside_weights_is_refused(folder, monkeypatch):
    """Of a folder it is seen before; transformers puts one into the model that it finds."""
    rank, rows = 4, {"A": (4, 48), "B": (96, 4)}
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{{}}.weight" for layer in range(3)]
    tensors = {name.format(which): torch.randn(shape) for name in names for which, shape in rows.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    change(
        folder / "adapter_config.json",
        **{"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"},
    )
    monkeypatch.setattr("fipo.models.loading.check_folder", lambda path: None)
    with pytest.raises(ConfigError, match="holds an adapter"):
        load_model(Model(name_or_path=str(folder)))


def test_an_index_that_is_out_of_date_is_passed_over(folder):
    """As transformers does where there is a whole file."""
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}))
    save_file({"tok_embeddings.weight": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    assert weight_files(folder) == [folder / WEIGHTS]
    load(folder)


def test_an_index_has_metadata(folder):
    (folder / WEIGHTS).rename(folder / "one.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "one.safetensors"}}))
    with pytest.raises(ConfigError, match=r'must have "metadata"'):
        load(folder)


def test_weights_that_no_layer_takes_are_told_of(folder, caplog):
    """As where config.json has fewer layers than the files."""
    weights = load_file(folder / WEIGHTS)
    more = {name.replace(".2.", ".3."): weight.clone() for name, weight in weights.items() if ".layers.2." in name}
    save_file(weights | more, folder / WEIGHTS, metadata={"format": "pt"})
    load(folder)
    assert f"{len(more)} tensors of its files are no part of it, such as model.layers.3." in caplog.text


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ([{"name": "chat", "template": TEMPLATE}, {"name": "tools", "template": "x"}], "no default"),
        ("{{ 1 // 0 }}", "division"),
        ("{{ messages.first.content }}", "has no attribute 'first'"),
        (
            "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
            "leaves out or changes",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.content[0]['text'] }}<|im_end|>{% endfor %}",
            "leaves out or changes",
        ),
        ("{{ messages[0].content | upper }}", "leaves out or changes"),
    ],
)
def test_templates_that_do_not_ask_the_problem_are_named(folder, template, says):
    from fipo.data.schema import render

    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", chat_template=template)
    tokenizer = load_tokenizer(Model(name_or_path=str(folder)))
    with pytest.raises(DataError, match=rf"^data\.chat: the chat template of .*{says}"):
        render("What is 6 times 7?", tokenizer, DATA)


def test_of_several_templates_the_default_is_taken(folder):
    from fipo.data.schema import render

    (folder / "chat_template.jinja").unlink(missing_ok=True)
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ messages[0].content | trim }}!"}]
    change(folder / "tokenizer_config.json", chat_template=named)
    tokenizer = load_tokenizer(Model(name_or_path=str(folder)))
    assert render(" What is\n6 times 7? ", tokenizer, DATA).startswith("What is\n6 times 7?")


def test_the_hubs_models_are_held_to_the_same(folder, monkeypatch):
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    monkeypatch.setattr("fipo.models.loading.check_folder", lambda path: None)
    with pytest.raises(ConfigError, match=r"not quantized .*gptq"):
        load_model_config(Model(name_or_path=str(folder)))


def test_a_reference_reads_generation_settings_as_training_does(folder, tmp_path):
    change(folder / "generation_config.json", eos_token_id=[-7])
    model = Model(name_or_path=str(folder))
    with pytest.raises(ConfigError, match="got -7"):
        link_model(model, load_tokenizer(model), tmp_path / "linked")
