"""What of an assert line the program is asked, and what stays with the judge; held against Python itself."""

from typing import Any

import pytest

from fipo.outcome import Outcome
from fipo.rewards.sandbox.assertions import read_assertions
from fipo.rewards.sandbox.judge import judge


@pytest.mark.parametrize(
    ("line", "asked", "condition"),
    [
        ("assert f(3) == 9", ["f(3)"], ""),
        ("assert (f(3)) == (1, [2.5, None], {'a': -1})", ["f(3)"], ""),
        ("assert 9 == f(3)", ["f(3)"], "9 == _value_0"),
        ("assert f(3) == 9, f'not {9}'", ["f(3)"], ""),
        ("assert set(f(3)) == set([9])", ["f(3)"], "set(_value_0) == set([9])"),
        ("assert sorted(f([2, 1]), key=abs) == [1, 2]", ["f([2, 1])"], "sorted(_value_0, key=abs) == [1, 2]"),
        ("assert math.isclose(f(1), 0.1, rel_tol=1e-3)", ["f(1)"], "math.isclose(_value_0, 0.1, rel_tol=0.001)"),
        ("assert not f(3)", ["not not f(3)"], "not _value_0"),
        ("assert f(3)", ["not not f(3)"], "_value_0"),
        ("assert f(3) is None", ["f(3)"], "_value_0 is None"),
        ("assert f(3) in (1, 2)", ["f(3)"], "_value_0 in (1, 2)"),
        ("assert f(3) == 9 and g(1) != 2", ["f(3)", "g(1)"], "_value_0 == 9 and _value_1 != 2"),
        ("assert abs(f(1) - g(f(2))) < 1e-6", ["f(1)", "g(f(2))"], "abs(_value_0 - _value_1) < 1e-06"),
        ("assert A().b(1)[0].c == 3", ["A().b(1)[0].c"], ""),
        ("assert ', '.join(f(3)) == 'a, b'", ["f(3)"], "', '.join(_value_0) == 'a, b'"),
        ("assert [f(1), f(2)] == [1, 2]", ["f(1)", "f(2)"], "[_value_0, _value_1] == [1, 2]"),
        ("assert all(x > 0 for x in f(3))", ["f(3)"], "all((x > 0 for x in _value_0))"),
        ("assert f(3) == float('inf')", ["f(3)"], "_value_0 == float('inf')"),
        ("assert f'{f(3)}' == '9'", ["f(3)"], "f'{_value_0}' == '9'"),
        ("assert RESULT == 9", ["RESULT"], ""),
    ],
)
def test_only_the_programs_part_is_asked_of_it(line, asked, condition):
    (test,) = read_assertions([line], "import math")
    assert (list(test.asked), test.condition) == (asked, condition)
    # A literal that is held against equality alone stays with the judge as a value.
    assert (test.expected is not None) == (not condition)


def test_what_is_expected_is_a_value_of_the_judges():
    (test,) = read_assertions(["assert f(3) == (1, [2.5, None], {'a': -1})"])
    assert test.expected == (1, [2.5, None], {"a": -1})


@pytest.mark.parametrize(
    ("lines", "setup", "reason"),
    [
        (["x = f(1)"], "", "expected an assert line; found 'x = f"),
        (["assert f(1) =="], "", "is no Python"),
        (["assert f(1) == 1", "print('passed')"], "", "expected an assert line"),
        ([], "", "there is no assertion"),
        (["assert 1 == 1"], "", "nothing of it is the program's"),
        (["assert math.pi > 3"], "import math", "nothing of it is the program's"),
        (["assert all(f(x) == 1 for x in [1, 2])"], "", "depends on a variable of the assertion"),
        (["assert (lambda g: g(f))(1)"], "", ""),
        (["assert isclose(f(1), 2)"], "from math import *", "an import of \\* does not say"),
    ],
)
def test_what_cannot_be_cut_is_refused(lines, setup, reason):
    if not reason:
        assert read_assertions(lines, setup)
        return
    with pytest.raises(ValueError, match=reason):
        read_assertions(lines, setup)


def test_a_function_may_bear_a_builtin_name():
    tests = read_assertions(["assert sum(10, 15) == 6", "assert sum(100, 150) == 93"])
    assert [test.asked for test in tests] == [("sum(10, 15)",), ("sum(100, 150)",)]
    # But where another name is the program's, a builtin one is Python's.
    (other,) = read_assertions(["assert sum(f(3)) == 6"])
    assert other.asked == ("f(3)",)


def test_statements_before_the_lines_are_the_programs_only_where_they_need_it():
    setup = "\n".join(
        [
            "import math",
            "from collections import Counter as C",
            "LIMIT = 3",
            "def near(a, b):\n    return abs(a - b) < LIMIT",
            "root = Node(1)",
        ]
    )
    (test,) = read_assertions(["assert near(height(root), 4)"], setup)
    assert test.first == "import math\nfrom collections import Counter as C"
    assert test.asked == ("height(root)",) and test.condition == "near(_value_0, 4)"
    assert "Node" not in test.helpers and "def near" in test.helpers and "LIMIT = 3" in test.helpers
    assert "root = Node(1)" in test.after


# (lines, setup, a right program, wrong ones that would pass if anything were compared in their process)
ROWS = [
    (
        ["assert set(similar((3, 4, 5, 6), (5, 7, 4, 10))) == set((4, 5))"],
        "",
        "def similar(a, b): return tuple(set(a) & set(b))",
        ["import builtins\nbuiltins.set = lambda *_: 1\ndef similar(a, b): return ()"],
    ),
    (
        ["assert math.isclose(root(2), 1.41421, rel_tol=0.001)"],
        "import math",
        "def root(x): return x ** 0.5",
        ["import math\nmath.isclose = lambda *_, **__: True\ndef root(x): return 0"],
    ),
    (
        ["assert near(height(tree), 2)", "assert height(tree) > 1"],
        "def near(a, b): return abs(a - b) < 1e-9\ntree = Node(Node(None))",
        "class Node:\n    def __init__(self, child): self.child = child\n"
        "def height(node): return 1 + height(node.child) if node else 0",
        ["class Node:\n    def __init__(self, child): 0\ndef near(a, b): return True\ndef height(node): return 9"],
    ),
    (
        ["assert starts('ab')", "assert not starts('ba')"],
        "",
        "import re\ndef starts(text): return re.match('a', text)",
        ["def starts(text): return [0]", "class A:\n    def __bool__(self): return 1\ndef starts(text): return A()"],
    ),
    (
        ["assert list(up(3)) == [0, 1, 2]", "assert tuple(up(0)) == ()", "assert 2 in up(3)"],
        "",
        "def up(n): yield from range(n)",
        ["def up(n): yield from range(99)", "class A:\n    def __iter__(self): yield 0\ndef up(n): return A()"],
    ),
    (
        ["assert down(3) == [2, 1, 0]"],
        "",
        "def down(n): return list(reversed(range(n)))",
        [
            "def down(n): return reversed(range(n))",
            "from collections import deque\ndef down(n): return deque([2, 1, 0])",
        ],
    ),
    (
        ["assert sum(10, 15) == 6", "assert sum(100, 150) == 93"],
        "",
        "def sum(a, b):\n    both = [n for n in range(1, min(a, b)) if a % n == 0 and b % n == 0]\n"
        "    total = 0\n    for n in both: total += n\n    return total",
        ["sum = lambda *_: 6"],
    ),
    (
        ["assert spread([1.0, float('inf')]) == float('inf')", "assert spread([]) is None"],
        "",
        "def spread(x): return max(x) - min(x) if x else None",
        ["class A(float):\n    __eq__ = lambda *_: True\ndef spread(x): return A('nan') if x else None"],
    ),
    (
        ["assert split('a-b') == ('a', {'b'}, frozenset({1}), b'c', 2j, {1: [True]}, 2 ** 70)"],
        "",
        "def split(x): return 'a', {'b'}, frozenset({1}), b'c', 2j, {1: [True]}, 2 ** 70",
        ["def split(x): return ['a', {'b'}, frozenset({1}), b'c', 2j, {1: [True]}, 2 ** 70]"],
    ),
]


@pytest.mark.parametrize(("lines", "setup", "right", "wrong"), ROWS, ids=range(len(ROWS)))
def test_right_programs_pass_and_others_do_not(confined, lines, setup, right, wrong):
    tests = read_assertions(lines, setup)
    assert judge(right, tests, confined).outcome is Outcome.CORRECT
    # Python agrees.
    scope: dict[str, Any] = {}
    exec("\n".join([right, setup, *lines]), scope)
    for program in wrong:
        assert judge(program, tests, confined).outcome is Outcome.WRONG
