"""Random formulas, their values known from how they were made: equal exactly where the values are."""

from random import Random

import pytest
from mpmath import mp

from fipo.outcome import Outcome
from fipo.rewards.math import verify


def formula(random, depth):
    """(LaTeX, its value to sixty digits), written with as few brackets as a person would."""
    if depth == 0 or random.random() < 0.2:
        number = random.randint(1, 40)
        return random.choice(
            [(str(number), mp.mpf(number)), (r"\pi", +mp.pi), (rf"\sqrt{{{number}}}", mp.sqrt(number))]
        )
    (left, a), (right, b) = formula(random, depth - 1), formula(random, depth - 1)
    return random.choice(
        [
            (f"{left} + {right}", a + b),
            (rf"\left({left}\right)\left({right}\right)", a * b),
            (rf"\left({left}\right) - \left({right}\right)", a - b),
            (rf"\frac{{{left}}}{{{right}}}", a / b if b else mp.mpf(1) * a) if b else (left, a),
            (rf"\left({left}\right)^2", a**2),
            (rf"\left({left}\right) \cdot \frac{{1}}{{3}}", a / 3),
            (rf"\cos\left({left}\right)", mp.cos(a)),
        ]
    )


@pytest.mark.parametrize("seed", range(120))
def test_formulas_are_equal_where_their_values_are(seed):
    random = Random(seed)
    with mp.workdps(60):
        text, value = formula(random, 3)
        other, its_value = formula(random, 3)
        same = abs(value - its_value) < mp.mpf(10) ** -40
    assert (verify(rf"\boxed{{{text}}}", other) is Outcome.CORRECT) == same
    for equal in (rf"\frac{{2\left({text}\right)}}{{2}}", rf"\left({text}\right) + {other} - \left({other}\right)"):
        assert verify(rf"\boxed{{{equal}}}", text) is Outcome.CORRECT, equal
    for unequal in (f"{text} + 10^{{-30}}", rf"\left({text}\right) + \frac{{1}}{{7}}"):
        assert verify(rf"\boxed{{{unequal}}}", text) is not Outcome.CORRECT, unequal


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (r"(x+y)^3", r"x^3+3x^2y+3xy^2+y^3"),
        (r"\frac{x^3-y^3}{x-y}", r"x^2+xy+y^2"),
        (r"\frac{1}{1+\frac{1}{x}}", r"\frac{x}{x+1}"),
        (r"2\sin x\cos x", r"\sin 2x"),
        (r"\cos^2 x-\sin^2 x", r"\cos(2x)"),
        (r"\ln(ab)", r"\ln a+\ln b"),
        (r"e^{x+y}", r"e^xe^y"),
        (r"\sqrt{x^2+2x+1}", r"|x+1|"),
        (r"\tan\frac{x}{2}", r"\frac{\sin x}{1+\cos x}"),
        (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"),
        (r"\frac{(n+1)!}{n!}", "n+1"),
        (r"2^{n+1}-2^n", "2^n"),
        (r"\frac{a^{-1}+b^{-1}}{(ab)^{-1}}", "a+b"),
        (r"\log_{2}x", r"\frac{\ln x}{\ln 2}"),
        (r"\sinh x", r"\frac{e^x-e^{-x}}{2}"),
        (r"x\sqrt{x}", r"x^{3/2}"),
    ],
)
def test_identities_hold_and_break_when_touched(one, two):
    assert verify(rf"\boxed{{{one}}}", two) is verify(rf"\boxed{{{two}}}", one) is Outcome.CORRECT
    for touched in (f"{one}+1", f"-({one})", f"2({one})", f"({one})^2"):
        assert verify(rf"\boxed{{{touched}}}", two) is not Outcome.CORRECT, touched
