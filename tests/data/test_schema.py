import copy

import pytest

from fipo.config import Data, load_config
from fipo.data.files import ProblemWriter
from fipo.data.schema import Problem, content_id, read_problems, reads_the_clock, render, tokenize
from fipo.errors import ConfigError, DataError
from fipo.models import load_tokenizer


def data(**settings) -> Data:
    return load_config("demo").data.model_copy(update=settings)


def test_content_id_is_the_sha256_of_the_normalised_prompt():
    # printf 'What is 3 + 4?' | sha256sum
    expected = "89359e54"
    assert content_id("What is 3 + 4?") == content_id("  What is\n3 +\t4? ")
    assert content_id("What is 3 + 4?").startswith(expected)
    assert content_id("caf\u00e9") == content_id("cafe\u0301")
    assert content_id("x = a") != content_id("x = A")


def test_tokenize_applies_the_template_and_keeps_the_answer():
    tokenizer = load_tokenizer(load_config("demo").model)
    problem = Problem("id", "3 1", "4", source="digits")
    prompt = tokenize(problem, tokenizer, data(prompt_template="Add modulo 5 : {prompt}"))
    assert tokenizer.convert_ids_to_tokens([*prompt.token_ids]) == ["Add", "modulo", "5", ":", "3", "1"]
    assert (prompt.id, prompt.text, prompt.answer, prompt.source) == ("id", "3 1", "4", "digits")


def test_braces_in_problems_are_text(tokenizer):
    prompt = tokenize(Problem("id", r"\frac{1}{2} {0} {prompt}", "4"), tokenizer, data(prompt_template="{prompt} !"))
    assert len(prompt.token_ids) == 4


CHAT = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }} {% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<quick> {% endif %}[assistant]"
)


def test_the_chat_template_is_told_the_system_prompt_and_the_arguments(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = CHAT
    plain = data(chat=True)
    assert render("1 + 1", tokenizer, plain) == "[user] 1 + 1 [assistant]"
    told = data(chat=True, system_prompt="Be brief.", chat_template_arguments={"enable_thinking": False})
    assert render("1 + 1", tokenizer, told) == "[system] Be brief. [user] 1 + 1 <quick> [assistant]"


def test_a_template_that_refuses_a_system_message_is_no_fault_of_the_rows(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    with pytest.raises(DataError, match=r"data\.system_prompt: 'Be brief\.'.*no system"):
        render("1 + 1", tokenizer, data(chat=True, system_prompt="Be brief."))


@pytest.mark.parametrize("setting", ["system_prompt=Be brief.", "chat_template_arguments={enable_thinking: false}"])
def test_what_only_a_chat_template_takes_is_refused_without_one(setting):
    with pytest.raises(ConfigError, match=r"data: .*must be empty without data\.chat"):
        load_config("demo", [f"data.{setting}"])


# As Llama 3.1's template has it.
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today Date: {{ date_string }} {% for message in messages %}{{ message.content }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "arguments", "reads"),
    [(DATED, {}, True), (DATED, {"date_string": "26 Jul 2024"}, False), (CHAT, {}, False)],
)
def test_a_template_that_writes_todays_date_is_found(tokenizer, template, arguments, reads):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    assert reads_the_clock(tokenizer, data(chat=True, chat_template_arguments=arguments)) is reads
    assert not reads_the_clock(tokenizer, data())


def test_chat_wraps_the_prompt_once():
    tokenizer = load_tokenizer(load_config("demo").model)
    tokenizer.chat_template = (
        "{% for message in messages %}modulo {{ message.content }} }{% endfor %}"
        "{% if add_generation_prompt %} Add{% endif %}"
    )
    prompt = tokenize(Problem("id", "3 1", "4"), tokenizer, data(chat=True))
    assert tokenizer.convert_ids_to_tokens([*prompt.token_ids]) == ["modulo", "3", "1", "}", "Add"]


def test_chat_without_a_chat_template_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"data\.chat: the tokenizer of .* has no chat template; set data\.chat=false"):
        tokenize(Problem("id", "3 1", "4"), tokenizer, data(chat=True))


def test_problems_survive_the_file(tmp_path):
    problems = [Problem(content_id(str(n)), f"{n} ∑ \u2028", "1", "r", "s") for n in range(10_000)]
    with ProblemWriter(tmp_path / "p.parquet") as writer:
        for problem in problems:
            writer.write(problem, 1)
    assert read_problems(tmp_path / "p.parquet") == problems


def test_reading_what_is_no_prepared_file(tmp_path, write):
    with pytest.raises(DataError, match=r"missing\.parquet: no readable parquet file .* run `fipo prepare` first"):
        read_problems(tmp_path / "missing.parquet")
    with pytest.raises(DataError, match=r"no readable parquet file"):
        read_problems(write("text.jsonl", [{"a": 1}]))
    with pytest.raises(DataError, match=r"expected the columns id, prompt, .*; found question. Is this a raw data set"):
        read_problems(write("raw.parquet", [{"question": "?"}]))
