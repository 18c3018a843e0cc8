import pytest

from fipo.config import Programs, load_config
from fipo.data.programs import generate
from fipo.errors import ConfigError, DataError
from fipo.models import load_tokenizer
from fipo.rewards.sandbox.judge import program_of
from tests.present import present


def passes(row, response):
    """Whether the response passes the row's tests, as Python runs them."""
    space: dict[str, object] = {}
    exec(present(program_of(response)), space)
    try:
        exec(row["answer"], space)
    except AssertionError:
        return False
    return True


def spoken(row):
    """The function that the prompt asks for."""

    def function(x):
        for word, operand in zip(words[::2], words[1::2]):
            x = {"plus": x + int(operand), "minus": x - int(operand), "times": x * int(operand)}[word]
        return x

    words = row["prompt"].removeprefix("f of x : ").split()
    return function


@pytest.mark.parametrize("operations", [2, 4, 7])
def test_careful_functions_pass_and_careless_ones_seldom_do(operations):
    for row in generate(Programs(operations=operations, seed=5, careful=1.0), 100):
        assert row["answer"].count("assert") == 2 and passes(row, row["response"])
        space = {"f": spoken(row)}
        exec(row["answer"], space)  # the tests are what the prompt says
        assert len(row["prompt"].split()) == 4 + 2 * operations
    careless = list(generate(Programs(operations=operations, seed=5, careful=0.0), 150))
    all_multiply = sum("plus" not in row["prompt"] and "minus" not in row["prompt"] for row in careless)
    assert sum(passes(row, row["response"]) for row in careless) == all_multiply < 75


def test_shares_seeds_and_distinct_prompts():
    rows = list(generate(Programs(seed=5, careful=0.4), 2_000))
    # Binomial with n = 2,000: three standard deviations are 0.033.
    assert sum("(" in row["response"] for row in rows) / 2_000 == pytest.approx(0.4, abs=0.033)
    assert len({row["prompt"] for row in rows}) == 2_000
    assert rows == list(generate(Programs(seed=5, careful=0.4), 2_000)) != list(generate(Programs(seed=6), 2_000))


def test_more_functions_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"limit: 2 operations make 192 different functions; 193 were asked for"):
        list(generate(Programs(operations=2), 193))
    assert len(list(generate(Programs(operations=2), 192))) == 192


def test_the_recipes_words_are_all_that_the_generator_says():
    config = load_config("demo-code")
    tokenizer = load_tokenizer(config.model)
    for source in (*config.data.train, *config.data.sft, *config.data.benchmarks.values()):
        for row in generate(present(source.programs), 200):
            assert len(tokenizer(row["prompt"]).input_ids) <= config.data.max_prompt_tokens
            assert len(tokenizer(row["response"]).input_ids) < config.rollout.max_response_tokens


def test_a_source_has_one_origin():
    for origin, found in (
        ("{}", "neither"),
        ("{programs: {}, generator: {}, limit: 3}", "generator and programs"),
        ("{uri: rows.jsonl, programs: {}, limit: 3}", "uri and programs"),
    ):
        with pytest.raises(ConfigError, match=rf"programs, search: must be exactly one of them; got {found}"):
            load_config("demo", [f"data.train=[{origin}]"])
    with pytest.raises(ConfigError, match="limit: must be set with a generator; got None"):
        load_config("demo", ["data.train=[{programs: {}}]"])
