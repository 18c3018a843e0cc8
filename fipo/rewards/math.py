r"""The verifier of mathematical answers, on math-verify.

The final answer of a response is its last `\boxed{…}`, or what follows its last "Answer:" or "the answer is", whichever
comes later; a number that merely stands in the text is no answer. It is parsed just as the reference answer is.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from fipo.errors import RewardError
from fipo.outcome import Outcome

if TYPE_CHECKING:
    from math_verify import LatexExtractionConfig

TAIL_CHARACTERS = 3000
"""Only the end of a response is looked at: where the answer stands, and as much as parses in milliseconds."""

_BOX = re.compile(r"\\f?boxed\s*\{")
_ANSWER = re.compile(
    r"\banswer\b(?:[^\n.:：]{0,60}?\bis\b\s*:?|\W{0,4}[:：])[\s*]*(?P<answer>[^\s*][^\n]*)", re.IGNORECASE
)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_SEPARATOR = re.compile(r"\s*(?:,|;|,?\s*(?:and|or))\s*")
_END_OF_ANSWER = re.compile(r"\**\.(?:\s|$)|[*,;.\s]*$")
_NUMBER_AND_WORDS = re.compile(r"(-?[\d,]*\.?\d+(?:/\d+)?)\s+(?!(?:and|or|pi|sqrt)\b)[A-Za-z][A-Za-z ]+")
_INTEGER = re.compile(r"-?\d{1,100}", re.ASCII)
_RATIONAL = re.compile(r"-?\d{1,40}(?:\.\d{1,40}|/\d{1,40})?")
_LATEX_RATIONAL = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")
_NUMBERS_IN_A_ROW = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:\s+[-+]?\d+(?:[.,]\d+)*)+")
_SPACED_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:\s\d{3})+(?:\.\d+)?")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def verify(response: str, answer: str) -> Outcome:
    r"""Compare the final answer of `response` with the reference.

    Hostile input can keep this busy for ever: `VerifierPool` gives it a time limit, and the outcome `timeout`.

    Args:
        response: the model's text.
        answer: the reference answer: LaTeX, without `\boxed`.

    Raises:
        RewardError: the reference answer parses to nothing (`parses` tells beforehand).
    """
    final = final_answer(response)
    if final is not None and _INTEGER.fullmatch(final) and _INTEGER.fullmatch(answer):
        # Nearly all there is in the usual training sets, and not worth a grammar.
        return Outcome.CORRECT if int(final) == int(answer) else Outcome.WRONG
    gold = _parse(answer)
    if not gold:
        raise RewardError(f"reference answer {answer!r}: math-verify finds nothing in it; see fipo.rewards.math.parses")
    if final is None:
        return Outcome.UNPARSED
    from math_verify import verify as equal

    found = _parse(final)
    if equal(list(gold), list(found), allow_set_relation_comp=True, timeout_seconds=None):
        return Outcome.CORRECT
    # What could not be parsed stays as text.
    return Outcome.UNPARSED if all(isinstance(value, str) for value in found) else Outcome.WRONG


def parses(answer: str) -> bool:
    """Whether `answer` can serve as a reference: math-verify makes an expression of it."""
    return any(not isinstance(value, str) for value in _parse(answer))


def extract_answer(response: str) -> str | None:
    """The final answer as text, None where there is none: two responses with equal texts give one answer.

    Spelling is normalised (spaces, LaTeX variants, units, thousands separators) and rationals are reduced, so that
    `0.5`, `1/2` and `\\frac12` are one vote; nothing is evaluated, so hostile input is harmless.
    """
    from latex2sympy2_extended.math_normalization import normalize_latex

    final = final_answer(response)
    if final is None:
        return None
    text = normalize_latex(_without_words(final), _extraction().normalization_config)
    text = _LATEX_RATIONAL.sub(r"\1\2/\3", "".join(text.split()))
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        return str(Fraction(text)) if _RATIONAL.fullmatch(text) else text or None
    except ZeroDivisionError:
        return text


def final_answer(response: str) -> str | None:
    """The text of the last boxed or announced answer."""
    tail = response[-TAIL_CHARACTERS:]
    boxed, announced = _last_boxed(tail), _last_announced(tail)
    answer = max(boxed, announced)[1]
    if answer is None or not _NUMBERS_IN_A_ROW.fullmatch(answer):
        return answer
    # Only `10 000` is one number; math-verify would multiply `2 2`, which a policy soon learns to exploit.
    return "".join(answer.split()) if _SPACED_THOUSANDS.fullmatch(answer) else None


def _last_boxed(text: str) -> tuple[int, str | None]:
    r"""(position, content) of the last closed `\boxed{…}`; (-1, None) without one."""
    for match in reversed(list(_BOX.finditer(text))):
        depth = 1
        for brace in re.finditer(r"(?<!\\)[{}]", text[match.end() :]):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                return match.start(), text[match.end() : match.end() + brace.start()].strip()
    return -1, None


def _last_announced(text: str) -> tuple[int, str | None]:
    """(position, content) of the last "Answer: …" or "the answer is …" of the text; (-1, None) without one."""
    matches = list(_ANSWER.finditer(text))
    if not matches:
        return -1, None
    line = matches[-1].group("answer")
    return matches[-1].start(), _leading_maths(line) or _END_OF_ANSWER.split(line, maxsplit=1)[0].strip()


def _leading_maths(line: str) -> str:
    """The formulas that `line` starts with: `$1$ and $2$ are …` is `1,2`; empty where it starts with none."""
    formulas: list[str] = []
    end = 0
    for match in _MATHS.finditer(line):
        if match.start() and not _SEPARATOR.fullmatch(line, end, match.start()):
            break
        formulas += filter(None, match.groups())
        end = match.end()
    return ",".join(formulas)


def _without_words(text: str) -> str:
    """`12 apples` is 12; math-verify takes off units that it knows, and reads other words as products of letters."""
    match = _NUMBER_AND_WORDS.fullmatch(text)
    return match.group(1) if match else text


@lru_cache(maxsize=1024)
def _parse(text: str) -> tuple[Any, ...]:
    """What math-verify makes of an answer: the expression, if it parses, and its normalised text.

    Kept, for parsing takes most of the time, and a group's responses share their reference and often their answers.
    """
    from math_verify import parse

    boxed = rf"\boxed{{{_without_words(text.strip())}}}"
    return tuple(parse(boxed, extraction_config=[_extraction()], parsing_timeout=None)) if text.strip() else ()


@cache
def _extraction() -> LatexExtractionConfig:
    from math_verify import LatexExtractionConfig

    # It warns once that the time limit is off; ours is around the whole process.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0)
