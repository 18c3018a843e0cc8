"""Answers that are announced in words or marked: `<answer>`, `####`, "Answer: …", "the answer is …", and in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fipo.rewards.answers.candidates import Candidate
from fipo.rewards.answers.phrases import CONNECTIVE, COPULA, DENIED, HEAD, HEAD_WORDS, HEDGE, LEAD, NOT_TAIL, TAIL
from fipo.rewards.answers.units import changes_value

_ANSWER_TAG = re.compile(
    r"<(?:final_?)?answer>(?P<content>(?:(?!<(?:final_?)?answer>).)*?)(?:</(?:final_?)?answer>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER_MARK = re.compile(r"</?(?:final_?)?answer>", re.IGNORECASE)
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\$(?!\d+(?:[.,]\d+)?(?:[\s.]|\Z)(?!\$))(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL
)
_OPENS = re.compile(r"\s*(?:\$|\\\(|\\\[)")
_SEPARATOR = re.compile(r"\s*(?:,|;|,?\s*(?:and|or)|、|和|或)\s*")
_SENTENCE = re.compile(r"\**[.。](?=\s|\*|$)|\n")
_MATHEMATICAL = re.compile(
    r"[-+]?[\d\\√∞½⅓¼π(\[{€$£¥.]|[A-Z]\b(?!\s[a-z])|[a-z]\s*(?:=|\^|[-+*/<>]|$)|\([A-Za-z]\)|sqrt|pi\b"
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}(?:\s+(?![-+*/=<>])[A-Za-z]{2,})+")
_HARMLESS = re.compile(r"\b(?:is|are|was|be|of|to|by|the|as|and|that)\b", re.IGNORECASE)
_LONE_NUMBER = re.compile(r"(?<![\w.,/^-])-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?(?![\w/^])")


def announced(text: str) -> Iterator[Candidate]:
    """Every announcement, in no order; only those that are mathematics or marked are strong."""
    for match in _ANSWER_TAG.finditer(text):
        content = match["content"].strip()
        if "boxed" not in content:
            inner = [one for one in _announced_in_words(content) if one.strong]
            yield Candidate(match.start(), match.end(), inner[-1].text if inner else content, True)
    yield from _announced_in_words(_ANSWER_MARK.sub(lambda mark: "\n" * len(mark.group()), text))


def _announced_in_words(text: str) -> Iterator[Candidate]:
    lowered = text.lower()
    if not any(word in lowered for word in HEAD_WORDS):
        return
    for match in TAIL.finditer(text):
        if not NOT_TAIL.search(text, max(match.start() - 60, 0), match.start()):
            yield Candidate(match.start(), match.end(), match["value"], True)
    for match in HEAD.finditer(text):
        labelled = bool(match["heading"]) or match.group().strip()[-1:] in (":", "：")
        start = match.end()
        rest = text[start:]
        blank = len(rest) - len(rest.lstrip(" \t*:：_"))
        if rest[blank : blank + 1] in ("\n", "\r") and (labelled or _OPENS.match(rest, blank)):
            blank = len(rest) - len(rest.lstrip(" \t*:：_\r\n"))
        found = _phrase(rest[blank:], marked=bool(match["line"]), labelled=labelled)
        if found:
            phrase, length, strong = found
            yield Candidate(match.start(), start + blank + length, phrase, strong)


def _phrase(rest: str, *, marked: bool, labelled: bool) -> tuple[str, int, bool] | None:
    """(answer, characters, whether it is mathematics) of what follows an announcement; None where it is none."""
    line = rest.split("\n", 1)[0] if not rest.startswith(("$$", "\\[")) else rest
    if line.lstrip(" *$(\\[").startswith(("boxed", "fbox")) or re.match(r"[\s*$(]*\\(?:f?boxed|fbox)", line):
        return None
    if marked:
        return line.strip(), len(line), True
    formulas, end = _leading_formulas(line)
    if formulas:
        return None if DENIED.match(line, end) else (formulas, end, True)
    sentence = _SENTENCE.split(line, maxsplit=1)[0]
    lead = LEAD.match(sentence)
    core = sentence[lead.end() :] if lead else sentence
    if "boxed" in core or HEDGE.search(core) or DENIED.match(core):
        return None
    inner, end = _leading_formulas(core)
    if inner:
        return inner, len(sentence), True
    cut = CONNECTIVE.sub("", core).strip(" *_,;:")
    return _plain_phrase(cut, sentence, labelled=labelled)


def _plain_phrase(text: str, sentence: str, *, labelled: bool) -> tuple[str, int, bool] | None:
    if not text:
        return None
    if _MATHEMATICAL.match(text) and not _PROSE.search(text):
        return text, len(sentence), True
    formulas = [next(filter(None, one.groups())) for one in _FORMULA.finditer(text)]
    copula = COPULA.match(text)
    after = text[copula.end() :].strip(" *_") if copula else ""
    if after and DENIED.match(after):
        return None
    if after and _MATHEMATICAL.match(after.lstrip("$")) and not _PROSE.search(after):
        inner, _ = _leading_formulas(after)
        return inner or after, len(sentence), True
    if len(formulas) == 1:
        return formulas[0], len(sentence), True
    numbers = _LONE_NUMBER.findall(text)
    if labelled and not formulas and len(numbers) == 1 and not changes_value(_HARMLESS.sub(" ", text)):
        return numbers[0], len(sentence), True
    return (text, len(sentence), False) if len(text.split()) <= 6 else None


def _leading_formulas(line: str) -> tuple[str, int]:
    """The formulas that `line` starts with, and where they end: `$1$ and $2$ are …` is `1, 2`."""
    formulas: list[str] = []
    end, either = 0, False
    for match in _FORMULA.finditer(line):
        between = line[end : match.start()]
        if between.strip(" *") and not (formulas and _SEPARATOR.fullmatch(between)):
            break
        either = either or "or" in between
        formulas += filter(None, match.groups())
        end = match.end()
    return (" or " if either else ", ").join(one.strip() for one in formulas), end
