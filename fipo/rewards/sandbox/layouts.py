"""How data sets write tests down: APPS, TACO, LiveCodeBench, MBPP, HumanEval. One typed form for all.

| layout | the reference answer is | other columns |
|---|---|---|
| APPS, TACO | `{"inputs": […], "outputs": […]}`, with `fn_name` for a function | |
| LiveCodeBench | `[{"input": …, "output": …, "testtype": "stdin"/"functional"}]` | `private_test_cases`, `metadata` |
| MBPP, assert lines | a list of lines, or text | `test_imports`, `test_setup_code` |
| HumanEval | `def check(candidate): assert candidate(…) == …`, and a call of it or | `entry_point` |
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fipo.rewards.sandbox.assertions import Assertion, read_assertions, unchecked

MAX_BYTES = 64 << 20
"""Of compressed tests, unpacked."""

# What a solution to a function of LeetCode's kind may take for granted; built-in functions are themselves again.
_PRELUDE = """import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys
from typing import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from bisect import *
from copy import *
from math import *
from operator import *
from string import *
from builtins import *"""


@dataclass(frozen=True, slots=True)
class ScriptTest:
    """Standard input, and what must be printed."""

    stdin: str
    expected: str


@dataclass(frozen=True, slots=True)
class CallTest:
    """A call, and the value that it must give; both as JSON holds them."""

    function: str
    arguments: tuple[Any, ...]
    expected: Any

    @property
    def asked(self) -> str:
        """The call, of a method of `Solution` where the program has such a class."""
        name = self.function
        return f"(Solution().{name} if 'Solution' in globals() else {name})(*{list(self.arguments)!r})"

    @property
    def first(self) -> str:
        """Imports that such programs are written for."""
        return _PRELUDE


Test = ScriptTest | CallTest | Assertion


def read_tests(reference: str, columns: Mapping[str, Any]) -> tuple[Test, ...]:
    """The tests of one row, in order.

    Raises:
        ValueError: it is in none of the layouts, has no tests, or tests that a program passes by doing nothing.
    """
    tests = tuple(_read(reference, columns))
    if not tests:
        raise ValueError("there are no tests")
    if all(isinstance(test, ScriptTest) and not test.expected.strip() for test in tests):
        raise ValueError("no test expects any output, so that an empty program passes")
    return tests


def _read(reference: str, columns: Mapping[str, Any]) -> list[Test]:
    try:
        content = json.loads(reference)
    except (ValueError, RecursionError):
        content = reference
    match content:
        case {"inputs": [*inputs], "outputs": [*outputs]}:
            return _pairs(inputs, outputs, content.get("fn_name"))
        case [{"input": _, "output": _}, *_] | []:
            private = columns.get("private_test_cases") or []
            return _cases([*content, *_unpacked(private)], columns)
        case str() | [str(), *_]:
            lines = [content] if isinstance(content, str) else content
            setup = [_text(columns.get("test_imports")), _text(columns.get("test_setup_code"))]
            if isinstance(content, str) and "def check(" in content:
                return _checks(content, _text(columns.get("entry_point")), setup)
            return list(read_assertions(lines, "\n".join(setup)))
    raise ValueError("expected tests in the layout of APPS, TACO, LiveCodeBench, MBPP or HumanEval")


def _checks(source: str, name: str, setup: list[str]) -> list[Test]:
    """The assertions of HumanEval's `check`; those of a method get the imports that such programs are written for."""
    lines, before = unchecked(source, name)
    found = read_assertions(lines, "\n".join([*setup, *before]))
    if not any("Solution()" in line for line in lines):
        return list(found)
    return [replace(one, first=f"{_PRELUDE}\n{one.first}") for one in found]


def _pairs(inputs: list[Any], outputs: list[Any], function: str | None) -> list[Test]:
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    if not function:
        return [ScriptTest(_text(given), _text(expected)) for given, expected in zip(inputs, outputs)]
    # Most rows wrap each value in a list of its own, some do not: the whole row tells.
    wrapped = all(isinstance(output, list) and len(output) == 1 for output in outputs)
    values = [output[0] for output in outputs] if wrapped else outputs
    return [_call(function, given, expected) for given, expected in zip(inputs, values)]


def _cases(cases: list[Any], columns: Mapping[str, Any]) -> list[Test]:
    metadata = columns.get("metadata") or {}
    function = (json.loads(metadata) if isinstance(metadata, str) else metadata).get("func_name")
    tests: list[Test] = []
    for case in cases:
        if case.get("testtype", "stdin") == "stdin":
            tests.append(ScriptTest(_text(case["input"]), _text(case["output"])))
        else:
            arguments = [json.loads(line) for line in case["input"].splitlines() if line.strip()]
            tests.append(_call(function, arguments, json.loads(case["output"])))
    return tests


def _call(function: Any, arguments: Any, expected: Any) -> CallTest:
    if not (isinstance(function, str) and function.isidentifier() and isinstance(arguments, list)):
        raise ValueError(f"expected the name of a function and a list of arguments; found {function!r}, {arguments!r}")
    return CallTest(function, tuple(arguments), expected)


def _unpacked(cases: Any) -> list[Any]:
    """LiveCodeBench keeps its private tests as a pickle of JSON, compressed."""
    if isinstance(cases, list):
        return cases
    try:
        return list(json.loads(cases))
    except ValueError:
        unpacker = zlib.decompressobj()
        pickled = unpacker.decompress(base64.b64decode(cases), MAX_BYTES)
        if not unpacker.eof:
            raise ValueError(f"private tests of over {MAX_BYTES:,} bytes") from None
        return list(json.loads(_OnlyText(io.BytesIO(pickled)).load()))


class _OnlyText(pickle.Unpickler):
    """Reads pickles of plain data; a pickle that names anything else would run it."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"a pickle that asks for {module}.{name}")


def _text(lines: Any) -> str:
    """Text, or the lines of one."""
    if isinstance(lines, list):
        return "\n".join(map(_text, lines))
    if lines is None:
        return ""
    return lines if isinstance(lines, str) else json.dumps(lines)
