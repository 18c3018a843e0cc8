"""Whether a program passes its tests: one after the other, each in a process of its own, judged outside of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from enum import StrEnum

from fipo.outcome import Grade, Outcome
from fipo.rewards.sandbox.assertions import Assertion
from fipo.rewards.sandbox.client import Ended, Program, Ran, Sandbox
from fipo.rewards.sandbox.layouts import CallTest, ScriptTest, Test
from fipo.rewards.sandbox.values import as_json, decode, is_same, prints_same

ALL_TESTS = 10
"""All tests together may take so many times what one may."""
SHOWN_CHARACTERS = 200

_FENCE = re.compile(r"^ {0,3}```[ \t]*([\w+-]*)[^\n]*\n(.*?)^ {0,3}```[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {"", "python", "python3", "py"}


class Fault(StrEnum):
    """Why a test is not passed; an explanation begins with it."""

    WRONG = "wrong answer"
    ERROR = "error"
    """An exception, or an exit code; what the sandbox refuses a program becomes one."""
    SIGNAL = "signal"
    """It crashed, or was killed from outside."""
    NO_VALUE = "no value"
    """It ended before it was asked, or gave what is no plain data."""
    TIME = "time limit"
    MEMORY = "memory limit"
    OUTPUT = "output limit"
    LOST = "sandbox ended"
    """It took its sandbox with it, where little holds it in."""


class Failure(Exception):
    """A test that is not passed."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else str(fault))
        self.fault = fault


def program_of(response: str) -> str | None:
    """The last block of code that is closed and says Python or nothing; the whole text where there is no fence.

    What stands in a think tag is no answer, and neither is what an unclosed one holds. None: there is no program.
    """
    said = response.rpartition("</think>")[2]
    if "<think>" in said:
        return None
    blocks = [code for language, code in _FENCE.findall(said) if language.lower() in _LANGUAGES]
    code = blocks[-1] if blocks else "" if "```" in said else said
    return code if code.strip() else None


def judge(response: str, tests: Sequence[Test], sandbox: Sandbox) -> Grade:
    """Run the tests up to the first that fails.

    Args:
        response: with the program.
        tests: at least one.
        sandbox: runs programs.

    Returns:
        `correct` where every test ran and passed; the score is the share of tests before the first that did not.

    Raises:
        RewardError: the sandbox failed, not the program.
    """
    program = program_of(response)
    if program is None:
        return Grade(Outcome.UNPARSED, score=0.0, explanation="no program")
    deadline = time.monotonic() + ALL_TESTS * sandbox.limits.wall_seconds
    for index, test in enumerate(tests):
        try:
            if time.monotonic() > deadline:
                raise Failure(Fault.TIME, "of all tests")
            _check(program, test, sandbox)
        except Failure as failure:
            said = f"test {index + 1} of {len(tests)}: {failure}"
            return Grade(Outcome.WRONG, said, index / len(tests), said)
    return Grade(Outcome.CORRECT, "passes", 1.0, f"passed all {len(tests)} tests")


def _check(program: str, test: Test, sandbox: Sandbox) -> None:
    if isinstance(test, ScriptTest):
        ran = sandbox.run(Program(program, stdin=test.stdin))
        _require_its_end(ran, sandbox)
        if not prints_same(ran.stdout, test.expected):
            raise Failure(Fault.WRONG, f"printed {_shown(ran.stdout)}, expected {_shown(test.expected)}")
    elif isinstance(test, CallTest):
        (value,) = _values(Program(program, first=test.first, expressions=(test.asked,)), sandbox)
        if not is_same(as_json(value), test.expected):
            raise Failure(Fault.WRONG, f"gave {_shown(value)}, expected {_shown(test.expected)}")
    else:
        asked = Program(program, first=test.first, after=test.after, expressions=test.asked)
        _check_values(test, _values(asked, sandbox), sandbox)


def _check_values(test: Assertion, values: Sequence[object], sandbox: Sandbox) -> None:
    if not test.condition:
        if not is_same(values[0], test.expected):
            raise Failure(Fault.WRONG, f"gave {_shown(values[0])}, expected {_shown(test.expected)}")
        return
    # Of the program there is nothing in this process but plain data.
    try:
        given = "".join(f"_value_{index} = {value!r}\n" for index, value in enumerate(values))
    except ValueError as error:  # a number of thousands of digits
        raise Failure(Fault.NO_VALUE, str(error)) from error
    after = f"inf, nan = float('inf'), float('nan')\n{test.helpers}\n{given}"
    try:
        verdict = _values(Program("", first=test.first, after=after, expressions=(f"bool({test.condition})",)), sandbox)
    except Failure as failure:
        raise Failure(Fault.WRONG, f"assert {_shown_code(test.condition)} of {_shown(values)}: {failure}") from failure
    if verdict != [True]:
        raise Failure(Fault.WRONG, f"assert {_shown_code(test.condition)} does not hold of {_shown(values)}")


def _values(program: Program, sandbox: Sandbox) -> list[object]:
    """What its expressions are worth, if all were evaluated and are plain data."""
    ran = sandbox.run(program)
    _require_its_end(ran, sandbox)
    if not ran.values:
        raise Failure(Fault.NO_VALUE, "it ended before the test")
    try:
        values = decode(ran.values)
    except ValueError as error:
        raise Failure(Fault.NO_VALUE, str(error)) from error
    if len(values) != len(program.expressions):
        raise Failure(Fault.NO_VALUE, f"{len(values)} values for {len(program.expressions)} expressions")
    return values


def _require_its_end(ran: Ran, sandbox: Sandbox) -> None:
    error = ran.stderr.rstrip().rpartition("\n")[2]
    # The kernel kills what is over its time as it kills what the machine has no memory for.
    if ran.ended is Ended.TIME or (ran.code == -9 and ran.seconds > 0.5 * sandbox.limits.cpu_seconds):
        raise Failure(Fault.TIME)
    if ran.ended is Ended.LOST:
        raise Failure(Fault.LOST)
    if ran.ended is Ended.OUTPUT:
        raise Failure(Fault.OUTPUT)
    if ran.code and error.startswith("MemoryError"):
        raise Failure(Fault.MEMORY)
    if ran.code < 0:
        raise Failure(Fault.SIGNAL, str(-ran.code))
    if ran.code:
        raise Failure(Fault.ERROR, error[:SHOWN_CHARACTERS] or f"exit code {ran.code}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _shown_code(code: str) -> str:
    return code if len(code) <= SHOWN_CHARACTERS else f"{code[:SHOWN_CHARACTERS]}…"
