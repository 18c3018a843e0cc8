r"""Where a response gives its answer, and which of several counts. docs/verifier.md has the grammar in words.

Boxes (a run of them is one list), `<answer>` tags, `####`, "Answer: …", "the answer is …" and their Chinese forms; the
last one counts. Reasoning between think tags is no answer, nor is what is withdrawn, negated or struck out; prose after a
box does not replace it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fipo.rewards.answers.normal import closing_brace

TAIL_CHARACTERS = 3000
"""Only the end of a response, its reasoning left out, is looked at."""

_THINKING = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis"
_TAG = re.compile(
    rf"<\s*(?P<close>/?)\s*(?:{_THINKING})\b[^<>]*>|(?P<begin><\|begin_of_thought\|>|\[THINK\]|◁think▷)"
    r"|(?P<end><\|end_of_thought\|>|\[/THINK\]|◁/think▷)",
    re.IGNORECASE,
)
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|~~[^~\n]*~~|<(s|del|strike)>.*?</\1>|^\s*%[^\n]*$|(?<!`)`{3}[^`]*\\(?:f?boxed|fbox)[^`]*`{3}", re.DOTALL | re.MULTILINE
)
_STRUCK = re.compile(r"\\(?:[bx]?cancel|sout|st|phantom|vphantom|hphantom|iffalse|enclose)\s*(?:\{[a-z]+\})?(?=\{)")
_BOX = re.compile(r"\\(?:f?boxed|fbox)\s*(?:\{|(?=[\dA-Za-z$\\]))|\\framebox\s*\{")
_BARE = re.compile(r"\$?(-?\d[\d,.]*\d|-?\d|[A-Za-z](?![A-Za-z])|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;.&*]|\\[()\[\],; ]|\\(?:quad|qquad|text\s*\{\s*(?:and|or|,|;)?\s*\})|\b(?:and|or|also|und)\b|和|与|或|、|，|；"
    r"|\(?\b(?:[a-z]|i{1,3}|iv|[1-9])\)|\\?[a-z](?:_\{?\w\}?)?\s*=)*",
    re.IGNORECASE,
)
_NOT_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\brather than|\binstead of|\bunlike|\bneither|\bnor|\bexcept|\\ne|\\neq|≠|!=|\be\.g\.|\bfor example|"
    r"\bsuch as|\bfor instance|不是|并非|\bwrong:|\bincorrect:|\bcannot)[\s,:]*(?:be|equal(?:s)?(?: to)?|the answer|simply|just)?[\s,:$*(]*$",
    re.IGNORECASE,
)
_HEAD = re.compile(
    r"(?P<line>^\s*#{4}\s*)"
    r"|\banswer\b(?:[^\n.:：?]{0,60}?(?:\b(?:is|are|equals)\b|=)|(?:\s*\*\*)?\s*[:：]|\s*\([^()\n]{0,20}\)\s*[:：])"
    r"|\banswer\s*(?=\$|\\\(|\\\[)"
    r"|答案(?:\s*(?:就?是|为|等于|应为|应该是|选))?\s*[:：]?|故选\s*[:：]?",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_TAG = re.compile(r"<answer>(?P<content>(?:(?!<answer>).)*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?!\d+(?:[.,]\d+)?(?:[\s.]|\Z)(?!\$))(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SEPARATOR = re.compile(r"\s*(?:,|;|,?\s*(?:and|or)|、|和|或)\s*")
_LEAD = re.compile(
    r"(?:[\s:：*_=,]|\b(?:clearly|therefore|thus|hence|simply|just|exactly|equal to|given by|obviously|indeed|now|then|definitely|"
    r"precisely|found to be|so|certainly|of course|surely|option|choice|always|only|that)\b)+",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"\s*(?:,\s*)?(?:\b(?:because|since|as|which|so|where|when|for|by|after|given|from|with|using|thanks|via|namely|meaning|making|"
    r"including)\b|\bnot\b|--|—|\s-\s|=>|⇒|因为|,\s*(?:as|not|the|we|this|that|it)\b).*",
    re.DOTALL | re.IGNORECASE,
)
_HEDGE = re.compile(r"\b(?:if|unless|otherwise|either|maybe|perhaps|depending|possibly|unknown|could be|might be|unclear)\b|\?", re.IGNORECASE)
_DENIED = re.compile(r"\s*(?:\b(?:is|was|are|seems|would be)\b\s*(?:clearly |obviously |definitely )?)?\b(?:not|wrong|incorrect|false|invalid|impossible)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"\**[.。](?=\s|\*|$)|\n")
_COPULA = re.compile(r".*(?:\b(?:is|are|equals|was|equal to)\b|[:：]|是|为)\s*", re.DOTALL | re.IGNORECASE)
_MATHEMATICAL = re.compile(r"[-+]?[\d\\√∞½⅓¼π(\[{€$£¥.]|[A-Z]\b(?!\s[a-z])|[a-z]\s*(?:=|\^|[-+*/<>]|$)|\([A-Za-z]\)|sqrt|pi\b")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}(?:\s+(?![-+*/=<>])[A-Za-z]{2,}){3,}")
_WITHDRAWN = re.compile(
    r"\bwait\b|\bhold on\b|\bscratch that\b|\bnever ?mind\b|\btake (?:that|it|this) back\b|\bon second thought|\bdisregard\b|"
    r"\bignore (?:that|this|the|my|it)\b|\bretract|\bwithdraw|\bi (?:made|have made|was making) an? (?:mistake|error)|"
    r"\b(?:that|this|it|which|answer|above|box|boxed|value|result)(?:'s|’s| is| was| seems| looks| must be| cannot be)?(?: \w+)? "
    r"(?:wrong|incorrect|not right|not correct|mistaken|not the answer|not the final answer|invalid|a guess|just a guess|not it)\b|"
    r"\bcan(?:not|'t|’t) (?:be right|be correct|determine|be determined)|\bi(?:'m| am|’m) (?:not|un)\s?(?:sure|certain|able)|"
    r"\bi (?:do not|don't|don’t) know\b|\bunable to\b|\blet me (?:re-?check|recompute|redo|reconsider|re-?think|try again|start over)|"
    r"(?:^|[.!\n]\s*)no[,.!]|\bis not the (?:final )?answer|\bactually,? (?:no|the|it|that)\b|错了|不对|等等|重新",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(r"\b(?:is|was|are|remains|indeed)\s+(?:\w+\s)?(?:correct|right|confirmed|consistent|valid)\b|\bconfirm", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int
    text: str
    strong: bool
    """Mathematics, a box or a marked place; prose counts only where there is nothing else."""


def final_answer(response: str) -> str | None:
    """The text of the answer that counts; None where none is given."""
    text = _visible(response)[-TAIL_CHARACTERS:]
    candidates = sorted([*_boxes(text), *_announced(text)], key=lambda one: (one.start, one.end))
    strong = [one for one in candidates if one.strong] or candidates
    if not strong:
        return None
    last = strong[-1]
    if not last.text or _is_withdrawn(text[last.end :]):
        return None
    return last.text


def _visible(response: str) -> str:
    """The response without its reasoning: what stands between think tags, or before or after one that has no partner."""
    if "<" in response or "[" in response or "◁" in response:
        parts, position, depth = [], 0, 0
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
    tail = response[-2 * TAIL_CHARACTERS :]
    return _without_struck(_HIDDEN.sub(" ", tail))


def _without_struck(text: str) -> str:
    parts, position = [], 0
    while match := _STRUCK.search(text, position):
        end = closing_brace(text, match.end())
        if end < 0:
            break
        parts.append(text[position : match.start()])
        position = end + 1
    return "".join(parts) + text[position:]


def _boxes(text: str) -> Iterator[_Candidate]:
    """Every run of boxes; one that does not close, or is empty, is an answer that was taken back."""
    run: list[_Candidate] = []
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


def _each_box(text: str) -> Iterator[_Candidate]:
    for match in _BOX.finditer(text):
        if _NOT_BEFORE.search(text, max(match.start() - 60, 0), match.start()):
            continue
        if match.group().endswith("{"):
            end = closing_brace(text, match.end() - 1)
            if end < 0:
                yield _Candidate(match.start(), len(text) if "boxed" not in text[match.end() :] else match.end(), "", True)
            else:
                yield _Candidate(match.start(), end + 1, text[match.end() : end].strip(), True)
        elif bare := _BARE.match(text, match.end()):
            yield _Candidate(match.start(), bare.end(), bare[1], True)


def _joined(run: list[_Candidate], text: str) -> _Candidate:
    texts = list(dict.fromkeys(one.text for one in run))
    either = any(re.search(r"\bor\b|或", text[one.end : two.start]) for one, two in zip(run, run[1:], strict=False))
    joined = (" or " if either else ", ").join(texts)
    return _Candidate(run[0].start, run[-1].end, joined, True)


def _announced(text: str) -> Iterator[_Candidate]:
    for match in _ANSWER_TAG.finditer(text):
        content = match["content"].strip()
        if "boxed" not in content:
            inner = [one for one in _announced_in_words(content) if one.strong]
            yield _Candidate(match.start(), match.end(), inner[-1].text if inner else content, True)
    yield from _announced_in_words(text)


def _announced_in_words(text: str) -> Iterator[_Candidate]:
    for match in _HEAD.finditer(text):
        start = match.end()
        rest = text[start:]
        blank = len(rest) - len(rest.lstrip(" \t*:：_\r\n" if ":" in match.group() or "：" in match.group() else " \t*_"))
        found = _phrase(rest[blank:], marked=bool(match["line"]))
        if found:
            phrase, length, strong = found
            yield _Candidate(match.start(), start + blank + length, phrase, strong)


def _phrase(rest: str, *, marked: bool) -> tuple[str, int, bool] | None:
    """(answer, characters, whether it is mathematics) of what follows an announcement; None where it is none."""
    line = rest.split("\n", 1)[0] if not rest.startswith(("$$", "\\[")) else rest
    if line.lstrip(" *$(\\[").startswith(("boxed", "fbox")) or re.match(r"[\s*$(]*\\(?:f?boxed|fbox)", line):
        return None
    if marked:
        return line.strip(), len(line), True
    formulas, end = _leading_formulas(line)
    if formulas:
        return None if _DENIED.match(line, end) else (formulas, end, True)
    sentence = _SENTENCE.split(line, maxsplit=1)[0]
    lead = _LEAD.match(sentence)
    core = sentence[lead.end() :] if lead else sentence
    if "boxed" in core or _HEDGE.search(core) or _DENIED.match(core):
        return None
    inner, end = _leading_formulas(core)
    if inner:
        return inner, len(sentence), True
    cut = _CONNECTIVE.sub("", core).strip(" *_,;:")
    return _plain_phrase(cut, sentence)


def _plain_phrase(text: str, sentence: str) -> tuple[str, int, bool] | None:
    if not text:
        return None
    if _MATHEMATICAL.match(text) and not _PROSE.search(text):
        return text, len(sentence), True
    formulas = [next(filter(None, one.groups())) for one in _FORMULA.finditer(text)]
    copula = _COPULA.match(text)
    after = text[copula.end() :].strip(" *_") if copula else ""
    if after and _DENIED.match(after):
        return None
    if after and _MATHEMATICAL.match(after.lstrip("$")) and not _PROSE.search(after):
        inner, _ = _leading_formulas(after)
        return inner or after, len(sentence), True
    if len(formulas) == 1:
        return formulas[0], len(sentence), True
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


def _is_withdrawn(after: str) -> bool:
    last = None
    for last in _WITHDRAWN.finditer(after):
        pass
    return last is not None and not _CONFIRMED.search(after, last.end())
