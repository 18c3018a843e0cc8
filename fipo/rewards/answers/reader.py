r"""Where a response gives its answer, and which of several counts. docs/verifier.md has the grammar in words.

Boxes (a run of them is one list) and announcements; the last one counts. Reasoning between think tags is no answer, nor
is what is withdrawn, negated or struck out; prose after a box does not replace it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from fipo.rewards.answers.announced import announced
from fipo.rewards.answers.candidates import Candidate
from fipo.rewards.answers.normal import closing_brace
from fipo.rewards.answers.phrases import CONFIRMED, DENIED, NOT_BEFORE, WITHDRAWN

TAIL_CHARACTERS = 3000
"""Only the end of a response, its reasoning left out, is looked at."""

_THINKING = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis"
_TAG = re.compile(
    rf"<\s*(?P<close>/?)\s*(?:{_THINKING})\b[^<>]*>|(?P<begin><\|begin_of_thought\|>|\[THINK\]|◁think▷)"
    r"|(?P<end><\|end_of_thought\|>|\[/THINK\]|◁/think▷)",
    re.IGNORECASE,
)
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|~~[^~\n]*~~|<(s|del|strike)>.*?</\1>|^\s*%[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
_HIDING = ("<!--", "~~", "<s>", "<del>", "<strike>", "%")
_TURN_END = re.compile(r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end)\|>.*", re.DOTALL)
_TURN_BEGIN = re.compile(
    r"(?:\s*<\|(?:im_start|begin_of_text|(?:start|end)_header_id|assistant)\|>\s*(?:assistant\b)?)+"
)
_STRUCK = re.compile(r"\\(?:[bx]?cancel|sout|st|phantom|vphantom|hphantom|iffalse|enclose)\s*(?:\{[a-z]+\})?(?=\{)")
_BOX = re.compile(r"\\(?:f?boxed|fbox)\s*(?:\{|(?=[\dA-Za-z$\\]))|\\framebox\s*\{")
_BARE = re.compile(r"\$?(-?\d[\d,.]*\d|-?\d|[A-Za-z](?![A-Za-z])|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;.&*]|\\[()\[\],; ]|\\(?:quad|qquad|text\s*\{\s*(?:and|or|,|;)?\s*\})"
    r"|(?:\s+(?!(?:is|was|not|but|which|so|wait|then|finally)\b)[a-z]+){1,3}[\s$]+and\b|\\text\s*\{[^{}]{1,30}\b(?:and|or)\s*\}"
    r"|(?<=\n)(?:-|\d+[.)])\s|\b(?:and|or|also|und)\b|和|与|或|、|，|；"
    r"|\(?\b(?:[a-z]|i{1,3}|iv|[1-9])\)|\\?[a-z](?:_\{?\w\}?)?\s*=)*",
    re.IGNORECASE,
)


def final_answer(response: str) -> str | None:
    """The text of the answer that counts; None where none is given."""
    text = _visible(response)[-TAIL_CHARACTERS:]
    candidates = sorted([*_boxes(text), *announced(text)], key=lambda one: (one.start, one.end))
    strong = [one for one in candidates if one.strong] or candidates
    if not strong:
        return None
    last = strong[-1]
    if not last.text or _is_withdrawn(text[last.end :]):
        return None
    return last.text


def _visible(response: str) -> str:
    """The response without its reasoning: what is between think tags, or before or after one without a partner."""
    if "<" in response or "[" in response or "◁" in response:
        parts, position, depth = list[str](), 0, 0
        for match in _TAG.finditer(response):
            if match["end"] or match["close"]:
                if not depth:
                    parts.clear()
                depth = max(depth - 1, 0)
                position = match.end()
            else:
                if not depth:
                    parts.append(response[position : match.start()])
                depth += 1
        response = "".join(parts) + ("" if depth else response[position:])
    begun = _TURN_BEGIN.match(response)
    tail = _TURN_END.sub("", response[begun.end() :] if begun else response)[-2 * TAIL_CHARACTERS :]
    if any(mark in tail for mark in _HIDING):
        tail = _HIDDEN.sub(" ", tail)
    return _without_struck(tail)


def _without_struck(text: str) -> str:
    parts, position = list[str](), 0
    while match := _STRUCK.search(text, position):
        end = closing_brace(text, match.end())
        if end < 0:
            break
        parts.append(text[position : match.start()])
        position = end + 1
    return "".join(parts) + text[position:]


def _boxes(text: str) -> Iterator[Candidate]:
    """Every run of boxes; one that does not close, or is empty, is an answer that was taken back."""
    run: list[Candidate] = []
    position = 0
    for box in _each_box(text):
        if box.start < position:  # a box within the last one
            continue
        position = box.end
        between = text[run[-1].end : box.start] if run else ""
        if run and not (_BETWEEN_BOXES.fullmatch(between) and box.text and run[-1].text):
            yield _joined(run, text)
            run = []
        run.append(box)
    if run:
        yield _joined(run, text)


def _each_box(text: str) -> Iterator[Candidate]:
    for match in _BOX.finditer(text):
        if NOT_BEFORE.search(text, max(match.start() - 40, 0), match.start()):
            continue
        if match.group().endswith("{"):
            end = closing_brace(text, match.end() - 1)
            if end < 0:
                yield Candidate(
                    match.start(), len(text) if "boxed" not in text[match.end() :] else match.end(), "", True
                )
            else:
                yield Candidate(match.start(), end + 1, text[match.end() : end].strip(), True)
        elif bare := _BARE.match(text, match.end()):
            yield Candidate(match.start(), bare.end(), bare[1], True)


def _joined(run: list[Candidate], text: str) -> Candidate:
    texts = list(dict.fromkeys(one.text for one in run))
    either = any(re.search(r"\bor\b|或", text[one.end : two.start]) for one, two in pairwise(run))
    joined = (" or " if either else ", ").join(texts)
    return Candidate(run[0].start, run[-1].end, joined, True)


def _is_withdrawn(after: str) -> bool:
    if DENIED.match(after.lstrip(" $*)")):
        return True
    taken_back = [match.end() for match in WITHDRAWN.finditer(after)]
    return bool(taken_back) and not CONFIRMED.search(after, taken_back[-1])
