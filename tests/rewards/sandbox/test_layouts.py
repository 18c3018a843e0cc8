"""Rows as the public data sets have them become tests; values and outputs are compared as they are read."""

import base64
import json
import pickle
import time
import zlib

import pytest

from fipo.outcome import Outcome
from fipo.rewards.sandbox.assertions import Assertion
from fipo.rewards.sandbox.judge import judge, program_of
from fipo.rewards.sandbox.layouts import CallTest, ScriptTest, read_tests
from fipo.rewards.sandbox.values import as_json, decode, prints_same

CHECK = """
METADATA = {}

def check(candidate):
    limit = 3
    # Small ones first.
    assert True, "It runs"
    assert candidate([1, 2]) == 3, "small"
    assert candidate([]) < limit
    assert True
"""
STDIN = [{"input": "3\n", "output": "9\n", "testtype": "stdin"}]
FUNCTIONAL = [{"input": "[1, 2]\n3", "output": "[3, 6]", "testtype": "functional"}]


def packed(cases):
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


@pytest.mark.parametrize(
    ("reference", "columns", "expected"),
    [
        # APPS and TACO, as text and as lines, and with a function to call.
        ({"inputs": ["1 2\n"], "outputs": ["3\n"]}, {}, [ScriptTest("1 2\n", "3\n")]),
        ({"inputs": [["1", "2"]], "outputs": [["3"]]}, {}, [ScriptTest("1\n2", "3")]),
        ({"inputs": [[[1], 2]], "outputs": [[3]], "fn_name": "f"}, {}, [CallTest("f", ([1], 2), 3)]),
        (
            {"inputs": [[1], [2]], "outputs": [[1, 2], [3]], "fn_name": "f"},
            {},
            [CallTest("f", (1,), [1, 2]), CallTest("f", (2,), [3])],
        ),
        # LiveCodeBench.
        (STDIN, {}, [ScriptTest("3\n", "9\n")]),
        (STDIN, {"private_test_cases": packed(STDIN)}, [ScriptTest("3\n", "9\n")] * 2),
        (STDIN, {"private_test_cases": json.dumps(STDIN)}, [ScriptTest("3\n", "9\n")] * 2),
        (FUNCTIONAL, {"metadata": '{"func_name": "g"}'}, [CallTest("g", ([1, 2], 3), [3, 6])]),
        ([], {"private_test_cases": packed(STDIN)}, [ScriptTest("3\n", "9\n")]),
        # MBPP, and plain lines.
        (["assert f(1) == 2"], {"test_imports": ["import math"]}, [Assertion("import math", "", ("f(1)",), "", 2)]),
        ("assert f(1) == 2\nassert f(2) == 3", {}, [Assertion("", "", (f"f({n})",), "", n + 1) for n in (1, 2)]),
        # HumanEval.
        (
            "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate('candidate') == 3",
            {"entry_point": "f"},
            [Assertion("", "", (asked,), "", n) for asked, n in (("f(1)", 2), ("f('candidate')", 3))],
        ),
    ],
)
def test_public_layouts_are_read(reference, columns, expected):
    text = reference if isinstance(reference, str) else json.dumps(reference)
    assert list(read_tests(text, columns)) == expected


class Evil:
    def __reduce__(self):
        return eval, ("1 / 0",)


@pytest.mark.parametrize(
    ("reference", "columns", "reason"),
    [
        ({"inputs": [], "outputs": []}, {}, "there are no tests"),
        ([], {}, "there are no tests"),
        ({"inputs": ["1"], "outputs": []}, {}, "1 inputs and 0 outputs"),
        ({"inputs": ["1", "2"], "outputs": ["", "\n"]}, {}, "an empty program passes"),
        ({"question": "?"}, {}, "expected tests in the layout of"),
        (["f(1)"], {}, "expected an assert line"),
        ("def check(candidate):\n    assert candidate(1) == 2", {}, "the name of the function"),
        ("def check(candidate):\n    assert candidate(1) == 2", {"entry_point": "1+1"}, "the name of the function"),
        ("def check():\n    assert f(1) == 2", {"entry_point": "f"}, "def check.candidate."),
        ("def check(candidate):\n    assert True", {"entry_point": "f"}, "there is no assertion"),
        ("def check(candidate):\n    assert 1 == 1", {"entry_point": "f"}, "nothing of it is the program's"),
        (
            "def check(candidate):\n    for n in (1, 2):\n        assert candidate(n) == n",
            {"entry_point": "f"},
            "more with the function than assert lines",
        ),
        ({"inputs": [[1]], "outputs": [[1]], "fn_name": "__import__('os').f"}, {}, "expected the name of a function"),
        (FUNCTIONAL, {}, "expected the name of a function"),
        (
            STDIN,
            {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()},
            "asks for builtins.eval",
        ),
        (
            STDIN,
            {"private_test_cases": base64.b64encode(zlib.compress(bytes(65 << 20))).decode()},
            "private tests of over",
        ),
    ],
)
def test_rows_without_sound_tests_are_refused(reference, columns, reason):
    with pytest.raises(ValueError, match=reason):
        read_tests(json.dumps(reference), columns)


@pytest.mark.parametrize(
    ("layout", "columns", "right"),
    [
        ({"inputs": [[[1, 2]]], "outputs": [[3]], "fn_name": "add"}, {}, "def add(x): return sum(x)"),
        (
            {"inputs": [[[1, 2]]], "outputs": [[3]], "fn_name": "add"},
            {},
            "class Solution:\n    def add(self, x: List[int]) -> int:\n        return sum(x)",
        ),
        (FUNCTIONAL, {"metadata": {"func_name": "times"}}, "def times(x, n): return tuple(n * y for y in x)"),
        (
            FUNCTIONAL,
            {"metadata": {"func_name": "times"}},
            "def times(x, n): return [pow(n * y, 1) for y in x if -inf < y < inf and ascii_lowercase and gcd(1, y)]",
        ),
        (STDIN, {}, "print(int(input()) ** 2)"),
        (CHECK, {"entry_point": "add"}, "def add(x): return sum(x)"),
        (CHECK + "\ncheck(add)", {}, "def add(x): return sum(x)"),
        (
            CHECK + "\ncheck(Solution().add)",
            {},
            "class Solution:\n    def add(self, x: List[int]) -> int:\n        return sum(x)",
        ),
    ],
)
def test_programs_of_each_layout_are_judged(confined, layout, columns, right):
    tests = read_tests(layout if isinstance(layout, str) else json.dumps(layout), columns)
    assert judge(right, tests, confined).outcome is Outcome.CORRECT
    assert (
        judge(right.replace("sum", "len").replace("n * y", "y").replace("** 2", "** 1"), tests, confined).score == 0.0
    )


@pytest.mark.parametrize(
    ("ending", "explanation"),
    [
        ("raise ValueError('after all')", "test 1 of 1: error: ValueError: after all"),
        ("exit(3)", "test 1 of 1: error: exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "test 1 of 1: signal: 11"),
    ],
)
def test_a_script_must_also_end_well(confined, ending, explanation):
    grade = judge(f"print(int(input()) ** 2, flush=True)\n{ending}", read_tests(json.dumps(STDIN), {}), confined)
    assert (grade.outcome, grade.explanation) == (Outcome.WRONG, explanation)


@pytest.mark.parametrize("values", ["[9, 9]", "[]", "9", "[true]", "[9.5]"])
def test_forged_values_are_only_values(confined, values):
    program = f"import os\nos.write(4, b'{values}')\nos._exit(0)"
    tests = read_tests('["assert square(3) == 9"]', {})
    assert judge(program, tests, confined).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "given",
    [
        "{b'x': 1}",
        "{(1, 2): 3}",
        "10 ** 5000",
        "[10 ** 5000]",
        "{10 ** 5000: 1}",
        "1e308 * 10",
        "'\\ud800'",
        "[[[[[]]]]] * 10 ** 4",
    ],
)
@pytest.mark.parametrize(
    "tests",
    [
        read_tests('{"inputs": [[1]], "outputs": [[7]], "fn_name": "f"}', {}),
        read_tests('["assert f(1) == 7"]', {}),
        read_tests('["assert set(f(1)) == {7}"]', {}),
    ],
)
def test_no_value_keeps_the_judge_busy_or_breaks_it(confined, tests, given):
    started = time.monotonic()
    assert judge(f"def f(x): return {given}", tests, confined).outcome is Outcome.WRONG
    assert time.monotonic() - started < 20.0


COLLIDING = [["int", hex(number * (2**61 - 1))] for number in range(100_000)]


@pytest.mark.parametrize(
    "value", [["set", *COLLIDING], ["frozenset", *COLLIDING], ["dict", *([["tuple", key], 0] for key in COLLIDING)]]
)
def test_keys_of_one_hash_are_refused(value):
    # Python's hash of an integer is its rest modulo 2**61 - 1; a set of these takes half a minute to build.
    started = time.process_time()
    with pytest.raises(ValueError, match="keys of equal hashes"):
        decode(json.dumps([value]))
    assert time.process_time() - started < 10.0


def test_large_values_may_be_right(confined):
    lines = ["assert f(2000) == " + repr({key: key for key in range(2000)})]
    tests = read_tests(json.dumps(lines), {})
    assert judge("def f(n): return {k: k for k in range(n)}", tests, confined).outcome is Outcome.CORRECT
    power = read_tests(json.dumps([f"assert f(1000) == {10**1000}"]), {})
    assert judge("def f(n): return 10 ** n", power, confined).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3\n", "3", True),
        ("3  \n\n", "3\n", True),
        ("1 2\n3\n", "1   2\n3", True),
        ("YES", "YES", True),
        ("0.3333333", "0.33333333333", True),
        ("1e-7", "0.0", True),
        ("100000.05", "100000.0", True),
        ("2", "2.0", True),
        ("", "3", False),
        ("3 4", "3", False),
        ("3\n3", "3", False),
        ("\n3", "3", False),
        ("yes", "YES", False),
        ("0.333", "0.33333333333", False),
        ("3.0", "3", False),
        ("3.0000001", "3", False),
        ("nan", "0.5", False),
        ("inf", "1e400.", False),
        ("9" * 10_000 + ".0", "1.0", False),
    ],
)
def test_outputs_are_compared_word_by_word(printed, expected, same):
    assert prints_same(printed, expected) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        '"[1]"',
        "[{}]",
        '[["int", "x"]]',
        '[["object", 1]]',
        '[["set", ["list"]]]',
        "[" * 10_000,
        '[["int", 5]]',
    ],
)
def test_what_the_driver_does_not_write_is_no_value(text):
    with pytest.raises(ValueError, match="no plain data"):
        decode(text)


def test_json_has_lists_and_keys_that_are_text():
    assert as_json((1, [(2,)], {3: (4,)})) == [1, [[2]], {"3": [4]}]


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("print(1)", "print(1)"),
        ("So:\n```python\nprint(1)\n```\nDone.", "print(1)\n"),
        ("```\nprint(1)\n```", "print(1)\n"),
        ("```py\nprint(1)\n```\nor better\n```python\nprint(2)\n```", "print(2)\n"),
        ("```python\nprint(1)\n```\nIt prints\n```text\n1\n```", "print(1)\n"),
        ("<think>```python\nprint(1)\n```</think>```python\nprint(2)\n```", "print(2)\n"),
        ("thought\n</think>\nprint(2)", "\nprint(2)"),
        ("<think>```python\nprint(1)\n```", None),
        ("```python\nprint(1)", None),
        ("```cpp\nint main() {}\n```", None),
        ("", None),
        (" \n", None),
    ],
)
def test_the_program_is_the_last_closed_block(response, program):
    assert program_of(response) == program
