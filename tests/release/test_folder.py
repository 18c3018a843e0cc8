"""What a server is given asks the model as training did, whatever the template and the tokenizer."""

import json
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GenerationConfig

from fipo.cli import main
from fipo.config import load_config
from fipo.data.schema import Problem, tokenize
from fipo.errors import DataError
from fipo.release.folder import lay_out
from tests.waiting import free_port

CHATML = (
    "{% for message in messages %}<im> {{ message.role }} {{ message['content'] }} </im> {% endfor %}"
    "{% if add_generation_prompt %}<im> assistant {% endif %}"
)


@pytest.fixture
def laid_out(small, tmp_path):
    """`laid_out("data.chat=true", change=...)`: the served folder of a model with these settings, and the settings."""

    def laid_out(*settings, change=None, model=None):
        model = model or small(rows=32)
        config = load_config("demo", settings)
        (model / "fipo.yaml").write_text(config.to_yaml())
        if change:
            change(model)
        lay_out(model, tmp_path / "served" / "small")
        return tmp_path / "served" / "small", config

    return laid_out


def chat_tokens(folder, *messages):
    """As transformers' server and vLLM make them of a request."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded: Any = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True)
    return encoded["input_ids"]


def trained_tokens(folder, problem, config):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return list(tokenize(Problem("", problem, ""), tokenizer, config.data).token_ids)


def user(text):
    return {"role": "user", "content": text}


@pytest.fixture
def any_text(tmp_path):
    """Let the word-level tokenizer know every word, and the marks of the chat."""

    def any_text(folder):
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        words = [
            "<unk>",
            "<im>",
            "</im>",
            "user",
            "assistant",
            "system",
            "short",
            "left",
            '"Say"',
            "{{",
            "}}",
            "'it'",
            "\\boxed",
            "🙂",
        ]
        for word in words:
            vocabulary[word] = len(vocabulary)
        tokenizer["model"]["unk_token"] = "<unk>"
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    return any_text


@pytest.mark.parametrize(
    "template", ["{prompt}", "1 + {prompt} =", "\"Say\" 'it'\n\\boxed {{ {prompt} }} 🙂", "{prompt} {prompt} ="]
)
@pytest.mark.parametrize("chat", [False, True])
def test_a_chat_request_is_the_prompt_of_training(laid_out, any_text, template, chat):
    def change(model):
        any_text(model)
        if chat:
            (model / "chat_template.jinja").write_text(CHATML)

    setting = f"data.prompt_template={json.dumps(template, ensure_ascii=False)}"
    folder, config = laid_out(setting, f"data.chat={str(chat).lower()}", change=change)
    assert config.data.prompt_template == template
    tokens = chat_tokens(folder, user("2 + 3"))
    assert tokens == trained_tokens(folder.parents[1] / "small", "2 + 3", config)
    assert 8 not in tokens, "no word is unknown"


def test_a_tokenizer_that_begins_with_a_token_does_so_once(laid_out):
    def change(model):
        tokenizer = AutoTokenizer.from_pretrained(model)
        begin = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 1)])
        tokenizer.backend_tokenizer.post_processor = begin
        tokenizer.save_pretrained(model)

    folder, config = laid_out("data.prompt_template='{prompt} ='", change=change)
    assert chat_tokens(folder, user("2")) == trained_tokens(folder.parents[1] / "small", "2", config)
    assert chat_tokens(folder, user("2"))[0] == 1


def test_a_conversation_keeps_what_is_not_the_users(laid_out, any_text):
    def change(model):
        any_text(model)
        (model / "chat_template.jinja").write_text(CHATML)

    folder, _ = laid_out("data.chat=true", "data.prompt_template='{prompt} ='", change=change)
    system, said = {"role": "system", "content": "short"}, {"role": "assistant", "content": "3"}
    tokens = chat_tokens(folder, system, user("1 + 2"), said, user("2 + 2"))
    expected = (
        "<im> system short </im> <im> user 1 + 2 = </im> <im> assistant 3 </im> <im> user 2 + 2 = </im> <im> assistant"
    )
    assert AutoTokenizer.from_pretrained(folder).decode(tokens) == expected


def test_a_request_is_given_the_system_prompt_and_the_arguments_of_training(laid_out, any_text):
    template = "{% if mode is defined and mode.left == none %}left {% endif %}" + CHATML

    def change(model):
        any_text(model)
        (model / "chat_template.jinja").write_text(template)

    told = ["data.chat=true", "data.system_prompt=short", "data.chat_template_arguments={mode: {left: null}}"]
    folder, config = laid_out(*told, "data.prompt_template='{prompt} ='", change=change)
    tokens = chat_tokens(folder, user("1 + 2"))
    assert tokens == trained_tokens(folder.parents[1] / "small", "1 + 2", config)
    own = chat_tokens(folder, {"role": "system", "content": "user"}, user("1 + 2"))
    assert len(own) == len(tokens) and own != tokens, "a request may have its own"


def test_sampling_and_length_are_the_runs(laid_out):
    settings = ["evaluation.temperature=0.6", "evaluation.top_p=0.9", "rollout.max_response_tokens=40"]
    folder, _ = laid_out(*settings, "reward.overlong_buffer_tokens=0")
    own = GenerationConfig.from_pretrained(folder)
    assert (own.do_sample, own.temperature, own.top_p, own.top_k, own.max_new_tokens) == (True, 0.6, 0.9, 0, 40)
    assert own.eos_token_id == 1, "what the model says itself stays"


def test_a_run_that_was_evaluated_greedily_is_served_so(laid_out):
    folder, _ = laid_out("evaluation.temperature=0")
    assert GenerationConfig.from_pretrained(folder).do_sample is False


def test_nothing_that_can_be_a_program_is_served(laid_out):
    def change(model):
        for name in ("pytorch_model.bin", "modeling_own.py", "training_args.pt", "optimizer.pth"):
            (model / name).write_bytes(b"x")

    folder, _ = laid_out(change=change)
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }
    assert not {path.suffix for path in folder.iterdir()} & {".bin", ".py", ".pt", ".pth"}


def test_the_model_itself_is_left_as_it_is(laid_out, small):
    model = small()
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    laid_out(model=model)
    assert {path.name: path.read_bytes() for path in model.iterdir() if path.name != "fipo.yaml"} == before


def test_without_the_settings_of_a_run_the_model_is_served_as_it_is(small, tmp_path):
    lay_out(small(), tmp_path / "served" / "x")
    names = {path.name for path in (tmp_path / "served" / "x").iterdir()}
    assert "chat_template.jinja" not in names
    with pytest.raises((ValueError, TemplateError)):
        chat_tokens(tmp_path / "served" / "x", user("2"))


def test_what_cannot_be_served_is_refused(laid_out, small, tmp_path):
    with pytest.raises(DataError, match=r"data\.chat"):
        laid_out("data.chat=true")


@pytest.mark.parametrize("name", ["a@b", "organisation/model", "../model", ".."])
def test_a_name_that_is_none_is_refused_before_a_server_starts(small, capsys, name):
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(small()), "--port", str(free_port()), "--name", name])
    assert ended.value.code == 2
    assert f"--name: must be of letters, digits and ._- for servers to take it; got {name!r}" in capsys.readouterr().err
