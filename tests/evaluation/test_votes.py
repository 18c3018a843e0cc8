"""The majority is one of answers, not of spellings; compared by the real verifier."""

import pytest

from fipo.evaluation.estimators import cons_at_k
from fipo.evaluation.votes import Ballot, count_votes
from fipo.outcome import Outcome
from fipo.rewards.pool import GraderPool, Item


@pytest.fixture(scope="module")
def pool():
    with GraderPool(workers=1, timeout_seconds=2.0) as pool:
        yield pool


def by_meaning(pool):
    return lambda pairs: pool.equivalent("math", pairs)


def boxed(*answers):
    return [rf"So it is \boxed{{{answer}}}." for answer in answers]


def ballot(pool, reference, texts, grader="math"):
    grades = pool.grade([Item(grader, text, reference) for text in texts])
    return Ballot(texts, [grade.answer for grade in grades], [grade.outcome for grade in grades]), grades


def vote(pool, reference, *answers, grader="math"):
    cast, grades = ballot(pool, reference, boxed(*answers), grader)
    votes = count_votes([cast], lambda pairs: pool.equivalent(grader, pairs))[0]
    return votes, [grade.outcome is Outcome.CORRECT for grade in grades]


def test_wrong_answers_that_mean_the_same_are_one_vote(pool):
    votes, correct = vote(pool, "7", "2x+2", "7", "2(x+1)", "7", "x+x+2")
    assert votes == ["2x+2", "7", "2x+2", "7", "2x+2"]
    # Three against two; as texts, the two right ones would have won against one each.
    assert cons_at_k(votes, correct) == 0.0


def test_right_answers_are_one_vote_however_they_are_written(pool):
    votes, correct = vote(pool, "1/2", "0.5", r"\frac12", "2^{-1}", "3", "3")
    assert votes == ["1/2", "1/2", "1/2", "3", "3"]
    assert cons_at_k(votes, correct) == 1.0


def test_different_answers_stay_apart(pool):
    votes, correct = vote(pool, "9", r"\sqrt{2}", "1.414", "x^2", "x^3", "1/2", "2/4")
    assert votes == [r"\sqrt{2}", "707/500", "x^2", "x^3", "1/2", "1/2"]
    assert not any(correct)


def test_answers_without_meaning_vote_as_texts(pool):
    cast, _ = ballot(pool, "1", ["no answer", *boxed("", "???", "???", "12")])
    votes = count_votes([cast], by_meaning(pool))[0]
    assert votes[0] is None
    assert votes[2] == votes[3] != votes[4] == "12"


def test_an_answer_that_hangs_the_verifier_is_not_asked_again(pool):
    asked = []

    def spy(pairs):
        asked.extend(pairs)
        return pool.equivalent("math", pairs)

    hostile = "9^{9^{9^{9^{9}}}}"
    texts, outcomes = boxed(hostile, "3", "x", "y"), [Outcome.TIMEOUT, *[Outcome.WRONG] * 3]
    votes = count_votes([Ballot(texts, [hostile, "3", "x", "y"], outcomes)], spy)
    assert votes == [[hostile, "3", "x", "y"]]
    assert asked and not any(hostile in text for pair in asked for text in pair)


def test_problems_are_counted_apart_and_compared_together(pool):
    rounds = []

    def spy(pairs):
        rounds.append(len(pairs))
        return [one == other for one, other in pairs]

    def wrong(*answers):
        return Ballot(answers, answers, [Outcome.WRONG] * len(answers))

    assert count_votes([wrong("a", "b", "c"), wrong("a"), wrong()], spy) == [["a", "b", "c"], ["a"], []]
    assert rounds == [2, 1, 0], "one call a round, for all problems"


def test_exact_grading_compares_texts(pool):
    _, grades = ballot(pool, "left", [*boxed("left", "right"), "?"], "exact")
    assert [grade.outcome for grade in grades] == [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED]
    assert vote(pool, "left", "a", "b", "a", grader="exact")[0] == ["a", "b", "a"]
    # As mathematics the first two would be one vote.
    assert vote(pool, "x", "2x+2", "2(x+1)", grader="exact")[0] == ["2x+2", "2(x+1)"]
