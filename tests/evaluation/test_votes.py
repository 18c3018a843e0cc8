"""The majority is one of answers, not of spellings; compared by the real verifier."""

import pytest

from fipo.evaluation.estimators import cons_at_k
from fipo.evaluation.votes import Ballot, count_votes
from fipo.outcome import Outcome
from fipo.rewards.graders import ExactGrader, MathGrader
from fipo.rewards.pool import VerifierPool


@pytest.fixture(scope="module")
def grader():
    with VerifierPool(workers=1, timeout_seconds=2.0) as pool:
        yield MathGrader(pool)


def boxed(*answers):
    return [rf"So it is \boxed{{{answer}}}." for answer in answers]


def vote(grader, reference, *answers):
    texts = boxed(*answers)
    outcomes = grader.verify([(text, reference) for text in texts])
    ballot = Ballot(texts, [grader.extract(text) for text in texts], outcomes)
    return count_votes([ballot], grader.equivalent)[0], [outcome is Outcome.CORRECT for outcome in outcomes]


def test_wrong_answers_that_mean_the_same_are_one_vote(grader):
    votes, correct = vote(grader, "7", "2x+2", "7", "2(x+1)", "7", "x+x+2")
    assert votes == ["2x+2", "7", "2x+2", "7", "2x+2"]
    # Three against two; as texts, the two right ones would have won against one each.
    assert cons_at_k(votes, correct) == 0.0


def test_right_answers_are_one_vote_however_they_are_written(grader):
    votes, correct = vote(grader, "1/2", "0.5", r"\frac12", "2^{-1}", "3", "3")
    assert votes == ["1/2", "1/2", "1/2", "3", "3"]
    assert cons_at_k(votes, correct) == 1.0


def test_different_answers_stay_apart(grader):
    votes, correct = vote(grader, "9", r"\sqrt{2}", "1.414", "x^2", "x^3", "1/2", "2/4")
    assert votes == [r"\sqrt{2}", "707/500", "x^2", "x^3", "1/2", "1/2"]
    assert not any(correct)


def test_answers_without_meaning_vote_as_texts(grader):
    texts = ["no answer", *boxed("", "???", "???", "12")]
    outcomes = grader.verify([(text, "1") for text in texts])
    votes = count_votes([Ballot(texts, [grader.extract(text) for text in texts], outcomes)], grader.equivalent)[0]
    assert votes[0] is None
    assert votes[2] == votes[3] != votes[4] == "12"


def test_an_answer_that_hangs_the_verifier_is_not_asked_again(grader):
    asked = []

    def spy(pairs):
        asked.extend(pairs)
        return grader.equivalent(pairs)

    hostile = "9^{9^{9^{9^{9}}}}"
    texts, outcomes = boxed(hostile, "3", "x", "y"), [Outcome.TIMEOUT, *[Outcome.WRONG] * 3]
    votes = count_votes([Ballot(texts, [hostile, "3", "x", "y"], outcomes)], spy)
    assert votes == [[hostile, "3", "x", "y"]]
    assert asked and not any(hostile in text for pair in asked for text in pair)


def test_problems_are_counted_apart_and_compared_together(grader):
    rounds = []

    def spy(pairs):
        rounds.append(len(pairs))
        return [one == other for one, other in pairs]

    def wrong(*answers):
        return Ballot(answers, answers, [Outcome.WRONG] * len(answers))

    assert count_votes([wrong("a", "b", "c"), wrong("a"), wrong()], spy) == [["a", "b", "c"], ["a"], []]
    assert rounds == [2, 1, 0], "one call a round, for all problems"


def test_exact_grading_compares_texts():
    grader = ExactGrader()
    pairs = [(*boxed(answer), "left") for answer in ("left", "right")]
    assert grader.verify([*pairs, ("?", "left")]) == [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED]
    assert vote(grader, "left", "a", "b", "a")[0] == ["a", "b", "a"]
