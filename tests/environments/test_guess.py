"""The game."""

import pytest

from fipo.environments.guess import Guess
from fipo.outcome import Outcome


def played(hidden, *turns):
    game = Guess()
    game.reset("What is my number?", hidden, {})
    return [game.step(turn) for turn in turns], game.grade()


def test_halving_finds_it():
    said, grade = played("11", "8 ?", "I take 12.", "maybe 8 or 10", "11")
    assert said == ["higher", "lower", "higher", None]
    assert (grade.outcome, grade.answer, grade.score) == (Outcome.CORRECT, "11", 0.25)


@pytest.mark.parametrize("turns", [(), ("1", "2", "3"), ("the number is the one you hide",), ("11 or 12",)])
def test_who_does_not_name_it_has_not_won(turns):
    said, grade = played("11", *turns)
    assert None not in said and (grade.outcome, grade.answer, grade.score) == (Outcome.WRONG, None, 0.0)


def test_a_turn_without_a_number_is_no_guess():
    said, grade = played("-3", "hm", "-3")
    assert said == ["number ?", None] and grade.score == 1.0


def test_a_number_of_any_length_is_only_a_number():
    said, _ = played("5", "9" * 100_000)
    assert said == ["lower"]


def test_a_row_without_a_number_is_refused():
    with pytest.raises(ValueError, match="invalid literal"):
        played("x")
