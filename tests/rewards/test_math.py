"""The verifier's verdicts, and where it finds the final answer."""

import pytest

from fipo.errors import RewardError
from fipo.outcome import Outcome
from fipo.rewards.math import extract_answer, parses, verify

CORRECT, WRONG, UNPARSED = Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED


@pytest.mark.parametrize(
    ("response", "answer", "outcome"),
    [
        (r"3 4 3 3 0 2 3 1 \boxed{ 1 }", "1", CORRECT),
        (r"3 4 3 3 0 2 3 1 \boxed{ 2 }", "1", WRONG),
        ("3 4 3 3 0 2 3 1", "1", UNPARSED),
        (r"3 4 3 3 \boxed{ 1", "1", UNPARSED),
        (r"\boxed{}", "1", UNPARSED),
        (r"\boxed{3}. Wait, no: \boxed{5}", "5", CORRECT),
        (r"\boxed{3}. Wait, no: \boxed{5}", "3", WRONG),
        (r"\boxed{3}. So the answer is 5.", "5", CORRECT),
        (r"Answer: 3. Or rather \boxed{5}", "5", CORRECT),
        (r"Answer: \boxed{\frac{1}{2}}", "0.5", CORRECT),
        (r"**Final Answer:** 12", "12", CORRECT),
        ("Answer:\n\n$$x = 4$$", "4", CORRECT),
        (r"the answer is \(2\sqrt{3}\).", r"\sqrt{12}", CORRECT),
        ("So the answer to the question is 42. I hope it is correct.", "42", CORRECT),
        ("Answer: 5!", "120", CORRECT),
        ("Answer: 2x+3", "2", WRONG),
        ("Answer: $x=1$ and $x=-1$", "x=1, x=-1", CORRECT),
        ("The answer is 18 dollars per day.", "18", CORRECT),
        ("I found it after 7 steps.", "7", UNPARSED),
        ("", "1", UNPARSED),
        (r"\boxed{7}" + "." * 4000, "7", UNPARSED),
    ],
)
def test_the_last_stated_answer_counts(response, answer, outcome):
    assert verify(response, answer) is outcome


@pytest.mark.parametrize(
    ("answer", "usable"), [("7", True), (r"\frac12", True), ("", False), ("x=", False), ("?", False)]
)
def test_reference_answers_are_checked(answer, usable):
    assert parses(answer) is usable


def test_a_reference_answer_of_nothing_is_refused():
    with pytest.raises(RewardError, match="reference answer ' '"):
        verify(r"\boxed{1}", " ")


@pytest.mark.parametrize(
    ("spellings", "vote"),
    [
        ([r"\boxed{0.5}", r"\boxed{ \frac12 }", r"Answer: $\dfrac{2}{4}$", "the answer is 1/2."], "1/2"),
        ([r"\boxed{1,000}", "Answer: 1000"], "1000"),
        ([r"\boxed{5 \text{ cm}}", "Answer: 5 apples", r"\boxed{5.0}"], "5"),
        ([r"\boxed{x^2 + 1}", r"\boxed{x^2+1}"], "x^2+1"),
        ([r"\boxed{1/0}"], "1/0"),
        (["no answer", r"\boxed{}", ""], None),
    ],
)
def test_votes_do_not_depend_on_spelling(spellings, vote):
    assert [extract_answer(spelling) for spelling in spellings] == [vote] * len(spellings)


@pytest.mark.parametrize(
    ("response", "answer", "outcome"),
    [
        (r"\boxed{ 2 2 }", "4", Outcome.UNPARSED),  # not the product
        (r"\boxed{ 1 0 }", "0", Outcome.UNPARSED),
        (r"\boxed{ 2 -2 }", "-4", Outcome.UNPARSED),
        (r"\boxed{ 10 000 }", "10000", Outcome.CORRECT),
        (r"\boxed{1 234 567.5}", "1234567.5", Outcome.CORRECT),
    ],
)
def test_numbers_in_a_row_are_not_multiplied(response, answer, outcome):
    assert verify(response, answer) is outcome


def test_integers_are_compared_as_math_verify_compares_them():
    from math_verify import parse
    from math_verify import verify as peer

    texts = ["0", "-0", "00", "7", "007", "-7", "-07", "8", "70", "123456789012345678901234567890", "1000", "-1000"]
    for answer in texts:
        for reference in texts:
            equal = peer(parse(rf"\boxed{{{reference}}}"), parse(rf"\boxed{{{answer}}}"))
            assert (verify(rf"\boxed{{{answer}}}", reference) is CORRECT) == equal, (answer, reference)
