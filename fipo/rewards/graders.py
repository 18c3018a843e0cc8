"""Graders: each source of problems names the one that tells its right answers from wrong ones.

A grader is a function of the response, the reference answer and the row's other columns. It runs in a process of
`fipo.rewards.pool`, with a time and a memory limit, and depends on nothing but its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from numbers import Real
from typing import Any, Protocol

from fipo.errors import ConfigError, RewardError
from fipo.outcome import Grade, Outcome
from fipo.rewards.math import extract_answer, final_answer, verify
from fipo.rewards.sandbox.client import Limits, Sandbox
from fipo.rewards.sandbox.judge import judge
from fipo.rewards.sandbox.layouts import read_tests


class Grader(Protocol):
    """What every grader is."""

    def __call__(self, response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
        """Judge one response.

        Args:
            response: the model's text, without special tokens.
            reference: the reference answer; what is no text in its column is JSON.
            columns: the row's other columns, those that the source names, as JSON holds them.
        """
        ...


def math(response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
    """Compare final answers as mathematics."""
    outcome = verify(response, reference)
    return _answered(outcome, extract_answer(response))


def exact(response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
    """The final answer must be the reference, spelling normalised: for answers that are no mathematics."""
    answer, wanted = extract_answer(response), _normalised(reference)
    if not wanted:
        raise RewardError(f"reference answer {reference!r}: there is nothing in it")
    if answer is None:
        return _answered(Outcome.UNPARSED, None)
    return _answered(Outcome.CORRECT if answer == wanted else Outcome.WRONG, answer)


def choice(response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
    """The final answer must name the reference's letter, or all of its letters and no other: `(B) 42`, `A, C`, `AC`."""
    wanted = _letters(reference)
    if wanted is None:
        raise RewardError(f"reference answer {reference[:100]!r}: expected a letter, A to Z, or several")
    given = _letters(final_answer(response) or "")
    if given is None:
        return _answered(Outcome.UNPARSED, None)
    return _answered(Outcome.CORRECT if given == wanted else Outcome.WRONG, given)


def tests(response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
    """The response's program must pass every test of the row; `fipo.rewards.sandbox` runs it."""
    try:
        suite = read_tests(reference, columns)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RewardError(f"tests: {error}") from error
    return judge(response, suite, _sandbox())


BUILTIN: Mapping[str, Grader] = {"math": math, "exact": exact, "choice": choice, "tests": tests}


def find(name: str) -> Grader:
    """The grader of that name: built in, or `package.module:function`.

    Raises:
        ConfigError: there is none, or what is there cannot be called.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:  # its own code runs
        raise ConfigError(f"grader {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigError(f"grader {name!r} must be a function; found {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def grade(name: str, response: str, reference: str, columns: Mapping[str, Any]) -> Grade:
    """What the grader says of the response.

    Raises:
        ConfigError: there is no such grader.
        RewardError: it raised, or gave something else than a grade; or the reference answer is none for it.
    """
    grader = find(name)
    try:
        found = grader(response, reference, columns)
    except RewardError as error:
        raise RewardError(f"grader {name}: {error}") from error
    except (Exception, SystemExit) as error:
        # Where ours fail, the response has made them: it gets no verdict, and the next is asked of a fresh process.
        if name in BUILTIN or isinstance(error, MemoryError):
            raise
        raise RewardError(f"grader {name}: {type(error).__name__}: {error}") from error
    return _checked(name, found)


def _checked(name: str, found: Any) -> Grade:
    """A grade as it can be sent and kept: plain values, of the types that it says."""
    if not isinstance(found, Grade):
        raise RewardError(f"grader {name}: must give a fipo.outcome.Grade; gave {type(found).__name__}")
    if found.outcome not in tuple(Outcome):
        raise RewardError(f"grader {name}: an outcome must be one of {', '.join(Outcome)}; gave {found.outcome!r}")
    score: Any = found.score
    score = score.item() if hasattr(score, "item") else score  # one number of numpy or torch
    if score is not None and not (isinstance(score, Real) and 0 <= float(score) <= 1):
        raise RewardError(f"grader {name}: a score must be from 0 to 1, or None; gave {score!r}")
    for field in ("answer", "explanation"):
        if not isinstance(text := getattr(found, field), str) and (field, text) != ("answer", None):
            raise RewardError(f"grader {name}: {field} must be text; gave {type(text).__name__}")
    answer = None if found.answer is None else _unicode(found.answer)
    return Grade(Outcome(found.outcome), answer, None if score is None else float(score), _unicode(found.explanation))


def _unicode(text: str) -> str:
    """Without half pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode()


def refusal(name: str, reference: str, columns: Mapping[str, Any]) -> str:
    """Why this reference answer cannot be graded against; empty where it can.

    Mathematics must equal itself; every other grader must take it, whatever it makes of an empty response.
    """
    try:
        found = grade(
            name, rf"\boxed{{{reference}}}" if name in ("math", "exact", "choice") else "", reference, columns
        )
    except (ConfigError, RewardError) as error:
        return str(error)
    if name in ("math", "exact", "choice") and found.outcome is not Outcome.CORRECT:
        return f"grader {name}: {reference[:100]!r} does not equal itself"
    return ""


def configure(limits: Limits) -> None:
    """Set what programs may use, before the first is run."""
    _limits.append(limits)


_limits = [Limits()]


@cache
def _sandbox() -> Sandbox:
    """This process's own, for as long as it lives."""
    return Sandbox(_limits[-1])


def _answered(outcome: Outcome, answer: str | None) -> Grade:
    return Grade(outcome, answer, explanation="no answer" if answer is None else f"answered {answer[:200]}")


def _normalised(reference: str) -> str | None:
    return extract_answer(rf"\boxed{{{reference}}}")


_DRESSING = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|boxed|operatorname)\s*\{([^{}]*)\}|[$*`]")
_SEPARATORS = re.compile(r"\s*(?:[,;&+/]|\band\b)\s*")
_ONE = re.compile(r"[({\[]?([A-Za-z])[)}\]]?\.?")
_AND_MORE = re.compile(
    r"[({\[]?([A-Z])(?:[)}\].:]|\s*[-–]\s)(?=\s*\S)(?P<more>.*)|([B-HJ-Z])(?=\s+\S)(?P<rest>.*)", re.DOTALL
)
_LETTER = re.compile(r"\b[A-Z]\b|\([a-z]\)")


def _letters(answer: str) -> str | None:
    """The letters that an answer names, in order, each once: `(C), a.` is `A, C`, and so is `AC`; None where it names
    none."""
    text = _DRESSING.sub(lambda found: found[1] or "", answer).strip().rstrip(".").strip()
    if re.fullmatch("[A-H]{2,8}", text) and sorted(set(text)) == list(text):
        return ", ".join(text)
    named = [_ONE.fullmatch(part) for part in _SEPARATORS.split(text)]
    if all(named):
        return ", ".join(sorted({match[1].upper() for match in named if match}))
    # What is said of it may follow the letter, but no other letter; `A` and `I` are words too.
    match = _AND_MORE.fullmatch(text)
    if match is None or _LETTER.search(match["more"] or match["rest"]):
        return None
    return match[1] or match[3]
