"""Assert lines, cut in two: what the program is asked, and what the judge makes of the answers.

`assert set(f(3)) == {1, 2}` asks the program for `f(3)` alone. What it is held against never enters its process, and
`set` and `==` are Python's own, whatever the program has made of them in its process.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BUILTINS = frozenset(dir(builtins))
_VALUE = "_value_"


@dataclass(frozen=True, slots=True)
class Assertion:
    """One assert line."""

    first: str
    """Imports, for both sides."""
    after: str
    """What else stands before the line: run after the program, in its process."""
    asked: tuple[str, ...]
    """Expressions that the program's process evaluates."""
    condition: str
    """What must hold, with `_value_0`, ... for their values; empty where the only value must be `expected`."""
    expected: Any = None
    helpers: str = ""
    """Statements that `condition` needs and that need nothing of the program's."""


def read_assertions(lines: Sequence[str], setup: str = "") -> list[Assertion]:
    """The assertions of some lines of Python, with the statements that come before them.

    Raises:
        ValueError: a line is no assertion, or it cannot be told what of it is the program's.
    """
    preparation = _Preparation(_parse(setup))
    tests = [_test_of(statement) for line in lines for statement in _parse(line)]
    if not tests:
        raise ValueError("there is no assertion")
    known = preparation.known
    if not any(_Split(known).asked_of(test) for test in tests):
        # The function to write may bear the name of a built-in one; then each line begins with a call of it.
        known = known - {_called_first(test) for test in tests}
    return [_assertion(test, known, preparation) for test in tests]


def unchecked(source: str, name: str) -> tuple[list[str], list[str]]:
    """The lines within HumanEval's `def check(candidate)`, and what stands before them, of the function `name`.

    A call of it after the definition names the function too: `check(Solution().add)`.

    Raises:
        ValueError: there is no such definition, or nothing names the function.
    """
    before, checked = list[str](), list[ast.Assert]()
    candidate, tested = "", ast.parse(name, mode="eval").body if name.isidentifier() else None
    for statement in _parse(source):
        match statement:
            case ast.FunctionDef(name="check", args=ast.arguments(args=[ast.arg(arg=candidate)]), body=body):
                said = [one for one in body if not _says_nothing(one)]
                checked = [one for one in said if isinstance(one, ast.Assert)]
                others = [one for one in said if not isinstance(one, ast.Assert)]
                if any(candidate in _names(one)[0] for one in others):
                    raise ValueError("`check` does more with the function than assert lines can say")
                before += map(ast.unparse, others)
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[tested])):
                pass
            case _:
                before.append(ast.unparse(statement))
    if not candidate or tested is None:
        raise ValueError("expected `def check(candidate)`, and a call of it or the name of the function")
    return [ast.unparse(_Renamed(candidate, tested).visit(one)) for one in checked], before


def _says_nothing(statement: ast.stmt) -> bool:
    """A comment, `pass`, `return`, `assert True`."""
    if isinstance(statement, ast.Assert):
        return isinstance(statement.test, ast.Constant) and bool(statement.test.value)
    return isinstance(statement, (ast.Pass, ast.Return)) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


class _Renamed(ast.NodeTransformer):
    """Puts what is tested where the name of the argument stands."""

    def __init__(self, name: str, tested: ast.expr) -> None:
        self.name, self.tested = name, tested

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.tested if node.id == self.name else node


class _Preparation:
    """The statements before the assertions, and which names they and Python itself give to the judge."""

    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        imports = [one for one in statements if isinstance(one, (ast.Import, ast.ImportFrom))]
        others = [one for one in statements if one not in imports]
        self.known = _BUILTINS | {_bound_by(alias) for one in imports for alias in one.names}
        helpers = []
        for statement in others:
            loaded, bound = _names(statement)
            if not loaded - bound - self.known:
                helpers.append(statement)
                self.known |= bound
        self.first, self.after, self.helpers = _source(imports), _source(others), _source(helpers)


class _Split(ast.NodeTransformer):
    """Takes out of a condition what only the program can say: calls, attributes, items and names that begin with it."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known, self.asked = known, list[str]()
        self.local: set[str] = set()

    def asked_of(self, test: ast.expr) -> list[str]:
        """What of it is asked of the program."""
        self.split(test)
        return self.asked

    def split(self, test: ast.expr) -> ast.expr:
        """The condition on the program's values."""
        tree = ast.parse(ast.unparse(test), mode="eval").body  # a copy
        self.local = _names(tree)[1]
        return self.visit(tree)  # type: ignore[no-any-return]

    def visit(self, node: ast.AST) -> Any:
        """Replace the largest parts that are the program's."""
        root = _root(node)
        if root is None or root in self.known or root in self.local:
            return self.generic_visit(node)
        if _names(node)[0] & self.local:
            raise ValueError(f"{ast.unparse(node)}: what the program is asked depends on a variable of the assertion")
        self.asked.append(ast.unparse(node))
        return ast.Name(f"{_VALUE}{len(self.asked) - 1}", ast.Load())


def _assertion(test: ast.expr, known: frozenset[str], preparation: _Preparation) -> Assertion:
    split = _Split(known)
    condition = split.split(test)
    if not split.asked:
        raise ValueError(f"assert {ast.unparse(test)}: nothing of it is the program's")
    if ast.unparse(condition) in (f"{_VALUE}0", f"not {_VALUE}0"):
        # Only whether it is true matters: a program may give any object, such as a match.
        split.asked[0] = f"not not {split.asked[0]}"
    shared = preparation.first, preparation.after, tuple(split.asked)
    match condition:
        case ast.Compare(left=ast.Name(id="_value_0"), ops=[ast.Eq()], comparators=[expected]):
            try:
                return Assertion(*shared, condition="", expected=ast.literal_eval(expected))
            except ValueError:
                pass
    return Assertion(*shared, condition=ast.unparse(condition), helpers=preparation.helpers)


def _parse(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:100]!r} is no Python: {error}") from error


def _test_of(statement: ast.stmt) -> ast.expr:
    if not isinstance(statement, ast.Assert):
        raise ValueError(f"expected an assert line; found {ast.unparse(statement)[:100]!r}")
    return statement.test


def _called_first(test: ast.expr) -> str:
    left = test.left if isinstance(test, ast.Compare) else test
    if isinstance(left, ast.Call) and isinstance(left.func, ast.Name):
        return left.func.id
    raise ValueError(f"assert {ast.unparse(test)}: nothing of it is the program's")


def _bound_by(alias: ast.alias) -> str:
    if alias.name == "*":
        raise ValueError("an import of * does not say which names are the judge's: name them")
    return alias.asname or alias.name.partition(".")[0]


def _root(node: ast.AST) -> str | None:
    """The name that a chain of calls, attributes and items begins with."""
    while isinstance(node, (ast.Call, ast.Attribute, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else None


def _names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names that are read, and names that are bound, anywhere in it."""
    loaded, bound = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return loaded, bound


def _source(statements: Sequence[ast.stmt]) -> str:
    return "\n".join(map(ast.unparse, statements))
