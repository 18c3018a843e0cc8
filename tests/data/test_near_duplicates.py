import random

import pytest

from fipo.data.near_duplicates import PERMUTATIONS, NearDuplicates, band_rows, jaccard, shingles
from fipo.data.overlap import split_words


def find(problems, threshold=0.9, answers=None):
    near = NearDuplicates(threshold)
    for key, words in enumerate(problems):
        near.add(key, words, answers[key] if answers else "")
    return near.find(problems.__getitem__)


def random_words(seed, count=60):
    return random.Random(seed).choices([f"w{n}" for n in range(500)], k=count)


def test_jaccard_by_hand():
    # Shingles of 5 words: {abcde, bcdef} and {abcde, bcdeg}: 1 of 3 in common.
    assert jaccard(shingles(split_words("a b c d e f")), shingles(split_words("a b c d e g"))) == pytest.approx(1 / 3)
    assert jaccard(shingles(split_words("a b")), shingles(split_words("a b"))) == 1.0


def test_bands_find_a_pair_at_the_threshold():
    assert band_rows(0.9) == 8
    for threshold in (0.5, 0.7, 0.8, 0.9, 0.95, 1.0):
        rows = band_rows(threshold)
        assert 1 - (1 - threshold**rows) ** (PERMUTATIONS / rows) >= 0.99


def test_the_first_of_a_family_is_kept():
    original = random_words(0)
    # One word more at the end: 56 of 57 shingles in common.
    assert find([original, random_words(1), [*original, "more"], original]) == {2, 3}


def test_one_changed_word_in_the_middle_of_sixty_stays():
    original = random_words(0)
    changed = [*original[:30], "changed", *original[31:]]
    # 5 of 56 shingles differ on either side: 51 / 61 = 0.836.
    assert find([original, changed], 0.9) == set()
    assert find([original, changed], 0.83) == {1}


def test_another_answer_is_another_problem():
    original = random_words(0, 200)
    changed = [*original[:100], "changed", *original[101:]]
    assert find([original, changed], answers=["7", "7"]) == {1}
    assert find([original, changed], answers=["7", "8"]) == set()


def test_variants_with_other_answers_do_not_crowd_out_a_repeat():
    """A hundred variants of one wording, all candidates of each other, and a copy of the last."""
    words = random_words(0, 200)
    variants = [[*words[:100], f"number{n}", *words[101:]] for n in range(100)]
    answers = [str(n) for n in range(100)]
    assert find([*variants, [*variants[99], "more"]], answers=[*answers, "99"]) == {100}


def test_every_removed_problem_truly_overlaps_one_that_is_kept():
    """A chain in which each resembles its neighbour: transitive closure would keep one only."""
    words = random_words(0, 400)
    chain = [[*words[start : start + 100]] for start in range(0, 300, 4)]
    removed = find(chain)
    kept = [index for index in range(len(chain)) if index not in removed]
    for index in removed:
        assert max(jaccard(shingles(chain[index]), shingles(chain[other])) for other in kept if other < index) >= 0.9
    # Neighbours share 92 of 100 shingles, second neighbours 88 of 104: every second one is kept.
    assert kept == list(range(0, len(chain), 2))


def test_brute_force_agrees():
    rng = random.Random(7)
    problems = []
    for seed in range(60):
        original = random_words(seed, rng.randint(20, 120))
        problems.append(original)
        for _ in range(4):
            variant = list(original)
            for _ in range(rng.randint(0, 2)):
                variant[rng.randrange(len(variant))] = "changed"
            problems.append(variant)
    rng.shuffle(problems)
    kept: list[int] = []
    expected = set()
    for index, words in enumerate(problems):
        if any(jaccard(shingles(words), shingles(problems[other])) >= 0.8 for other in kept):
            expected.add(index)
        else:
            kept.append(index)
    found = find(problems, 0.8)
    assert found <= expected
    assert len(found) >= 0.97 * len(expected)
    assert len(expected) > 50


def test_digit_problems_that_differ_in_one_digit_are_all_kept():
    problems = [split_words("add modulo 5") + list(f"{n:08d}") for n in range(3000)]
    assert find(problems) == set()
