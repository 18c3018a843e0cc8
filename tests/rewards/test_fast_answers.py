"""The fast path for common forms agrees with the grammar on everything that it decides."""

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fipo.rewards.answers.compare import same
from fipo.rewards.answers.fast import quickly
from fipo.rewards.answers.interpret import interpret

SMALL = st.integers(-30, 30) | st.integers(-(10**12), 10**12)
DIGITS = st.text("0123456789", min_size=1, max_size=8)
COMMON = st.one_of(
    SMALL.map(str),
    SMALL.map(lambda value: f"{value:+d}"),
    DIGITS,
    st.builds(lambda sign, whole, part: f"{sign}{whole}.{part}", st.sampled_from(["", "-", "+"]), DIGITS, DIGITS),
    st.builds(lambda top, bottom: f"{top}/{bottom}", SMALL, st.integers(0, 30)),
    st.builds(lambda sign, d, top, bottom: rf"{sign}\{d}frac{{{top}}}{{{bottom}}}", st.sampled_from(["", "-"]),
              st.sampled_from(["", "d", "t"]), DIGITS, DIGITS),
    st.sampled_from("ABCDEFGXYZ"),
    st.sampled_from(["0.333333", "0.3333333", "0.666667", "0.666666", "1.0", "-0", "00", "0.0", "1/3", r"\frac{2}{3}"]),
)  # fmt: skip


def slowly(given, gold):
    said, meant = interpret(given, loose=True), interpret(gold, loose=False)
    assert said is not None and meant is not None
    return same(said, meant)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(COMMON, COMMON)
@example("0.333333", "1/3")
@example("5", "5.0")
@example("A", "1")
def test_the_fast_path_agrees_with_the_grammar(given, gold):
    quick = quickly(given, gold)
    assert quick is None or quick == slowly(given, gold)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SMALL, st.integers(1, 40), st.integers(1, 9))
def test_equal_values_are_found_equal_in_every_spelling(top, bottom, factor):
    spellings = [f"{top}/{bottom}", f"{top * factor}/{bottom * factor}"]
    spellings.append(rf"{'-' if top < 0 else ''}\frac{{{abs(top) * factor}}}{{{bottom * factor}}}")
    if bottom == 1:
        spellings += [str(top), f"{top}.0"]
    for one in spellings:
        for other in spellings:
            assert quickly(one, other) is True and slowly(one, other)
    assert quickly(spellings[0], str(Fraction(top, bottom) + 1)) is False


def test_common_forms_need_no_grammar():
    assert quickly("12", "13") is False and quickly("0.5", r"\frac{1}{2}") is True and quickly("C", "D") is False
    assert quickly("0.333333", r"\frac{1}{3}") is None and quickly("x", "12") is None and quickly("1/0", "1") is None
