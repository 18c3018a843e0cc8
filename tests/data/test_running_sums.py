import re
from contextlib import redirect_stdout
from io import StringIO

import pytest

from fipo.config import RunningSums, load_config
from fipo.data.running_sums import generate
from fipo.environments.python import PythonTool, code_of
from fipo.errors import DataError
from fipo.models import load_stops, load_tokenizer
from fipo.rewards.sandbox.client import Ended, Ran
from fipo.rollout.observations import Observations

ANSWER = re.compile(r"^(?P<sums>[\d ]*)\\boxed\{ (?P<answer>\d) \}$")


def digits_of(row):
    return [int(digit) for digit in row["prompt"].partition(" : ")[2].split()]


def test_worked_responses_write_every_running_sum():
    for row in generate(RunningSums(seed=5, worked=1.0, partly=0.0), 200):
        digits, match = digits_of(row), ANSWER.match(row["response"])
        expected = [sum(digits[: index + 1]) % 5 for index in range(8)]
        assert row["prompt"].startswith("Add modulo 5 : ")
        assert match and len(digits) == 8 and set(digits) <= {0, 1, 2, 3, 4}
        assert [int(number) for number in match["sums"].split()] == expected
        assert match["answer"] == row["answer"] == str(expected[-1])


def test_depth_of_the_demonstrations_follows_the_shares():
    rows = list(generate(RunningSums(seed=5, worked=0.4, partly=0.2), 10_000))
    shown = [len(match["sums"].split()) for row in rows if (match := ANSWER.match(row["response"]))]
    assert len(shown) == len(rows)
    # Binomial with n = 10,000: three standard deviations are 0.015.
    assert shown.count(8) / 10_000 == pytest.approx(0.4, abs=0.015)
    assert shown.count(4) / 10_000 == pytest.approx(0.2, abs=0.015)
    assert shown.count(0) / 10_000 == pytest.approx(0.4, abs=0.015)


def test_prompts_are_distinct_up_to_the_last_possible_one():
    prompts = {row["prompt"] for row in generate(RunningSums(digits=4, modulus=3), 81)}
    assert len(prompts) == 81


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"limit: 2 digits below 3 make 9 different problems; 10 were asked for"):
        list(generate(RunningSums(digits=2, modulus=3), 10))


def test_the_seed_decides():
    def prompts(seed):
        return [row["prompt"] for row in generate(RunningSums(seed=seed), 50)]

    assert prompts(1) == prompts(1)
    assert set(prompts(1)).isdisjoint(prompts(2))


def test_a_conversation_is_as_many_demonstrations_as_it_has_turns():
    """What is asked is a program that gives the answer, and what has been told is its output."""
    rows = list(generate(RunningSums(seed=5, worked=0.0, partly=0.0, asked=0.3, told=0.2), 2_000))
    asked = [row for row in rows if row["response"].startswith("```python")]
    told = [row for row in rows if "```output" in row["prompt"]]
    # Binomial with n = 2,000: three standard deviations are 0.03.
    assert len(asked) / 2_000 == pytest.approx(0.3, abs=0.03) and len(told) / 2_000 == pytest.approx(0.2, abs=0.03)
    for row in asked[:200]:
        code = code_of(row["response"])
        assert code and run(code) == row["answer"] == str(sum(digits_of(row)) % 5)
    for row in told[:200]:
        problem, call, output = re.split(r" (?=```python)| <end> (?=```output)", row["prompt"])
        assert run(code_of(call)) == row["answer"] and output == f"```output {row['answer']} ```"
        assert row["response"] == rf"\boxed{{ {row['answer']} }}" and problem.startswith("Add modulo 5 : ")


def run(code):
    with redirect_stdout(StringIO()) as printed:
        exec(code)
    return printed.getvalue().strip()


def test_the_demonstrations_are_what_the_environment_says():
    """Token by token: an observation in training is read as the warm-up has shown it."""
    config = load_config("demo-tool")
    tokenizer = load_tokenizer(config.model)
    observations = Observations(tokenizer, load_stops(config.model, tokenizer), chat=False, max_tokens=32)
    said = PythonTool(lambda program: Ran(Ended.ITSELF, 0, f"{run(program.program)}\n", "", "", 0.0, 0))
    for row in generate(RunningSums(digits=12, seed=5, worked=0.0, partly=0.0, asked=0.0, told=1.0), 20):
        before, end, output = row["prompt"].partition("<end> ")
        ids = observations.encode(said.step(before) or "", tokenizer.eos_token_id)
        assert ids == tokenizer(output).input_ids and end
