"""The words by which an answer is announced, led in, cut off, hedged, denied and taken back;"
"patterns by meaning."""

from __future__ import annotations

import re


def any_of(text: str) -> str:
    """A group of the alternatives between semicolons; a space stands for any space."""
    return "(?:" + "|".join(" ".join(one.split()).replace(" ", r"\s+") for one in text.split(";")) + ")"


IGNORE = re.IGNORECASE

_NEGATION = any_of(
    r"\bnot; n['’]t; \bnever; \brather than; \binstead of; \bunlike;"
    r"\bneither; \bnor; \bexcept; \bcannot; \bretract; \bignore; \bdiscard; \breject; \bdisregard; \\neq?; ≠; !=;"
    r"\be\.g\.; \bfor example; \bfor instance; \bsuch as; \bwrong:; \bincorrect:; 不是; 并非"
)
NOT_BEFORE = re.compile(
    _NEGATION + r"[\s,:]*" + any_of("be; equals?; equal to; the answer; simply; just") + r"?[\s,:$*(]*$", IGNORE
)
"""What makes a box that follows no answer: it is denied, or an example."""

_ELSEWHERE = "réponse|respuesta|risposta|resposta|antwort|antwoord|ответ|odpowiedź|cevap|jibu"
_UNSPACED = "答え|解答|정답|답|उत्तर|উত্তর|సమాధానం|คำตอบ|الإجابة|الجواب"
"""What an answer is called in other languages."""

HEAD = re.compile(
    r"(?P<line>^\s*#{4}\s*|(?<!#)#{4}\s*:?\s*(?=[-+$\\\d.]))"
    r"|\banswers?\b(?:[^\n.:：?]{0,60}?(?:\b(?:is|are|equals|(?:should|must|will|would)\s+be)\b|=)\s*[:：]?"
    r"|(?:\s*\*\*)?\s*(?:[:：→⇒–—]|[-=]>)|\s*\([^()\n]{0,20}\)\s*[:：])"
    r"|\banswer\s*(?=\$|\\\(|\\\[)|(?P<heading>^[#* ]*(?:final\s+)?answer[* ]*$)"
    r"|\b(?:correct|right|best|final)\s+(?:option|choice|result|value)\s+(?:is|are)\b\s*[:：]?"
    r"|\bans\b\.?\s*[:：=]|答案(?!不|并)(?:\s*(?:就?是|为|等于|应为|应该是|选))?\s*[:：]?|故选\s*[:：]?"
    rf"|\b(?:{_ELSEWHERE})\b(?!\s+(?:no|non|não|ne|не|nie)\b)[^\n.:：?]{{0,20}}?"
    r"(?:\s(?:est|es|è|é|ist|lautet)\b\s*[:：]?|\s*[:：])"
    rf"|(?:{_UNSPACED})\s*(?:은|는|は|คือ)?\s*[:：]",
    IGNORE | re.MULTILINE,
)
"""The beginning of an announcement."""
HEAD_WORDS = (
    *("answer", "ans", "####", "correct ", "right ", "best ", "final ", "答案", "故选"),
    *(*_ELSEWHERE.split("|"), *_UNSPACED.split("|")),
)
"""One of them stands in every announcement: a text without any need not be searched."""

TAIL = re.compile(
    r"(?P<value>\$[^$\n]+\$|\\\([^\n]+?\\\)|(?<![\w.,/^-])-?\d[\d,./]*|\b[A-E])\s+is\s+(?:(?:indeed|clearly|therefore|thus)\s+)?"
    r"(?:the|our|my)\s+(?:(?:final|correct|right)\s+)?answer\b",
    IGNORE,
)
"""An answer that is announced after it: "14 is the answer"."""
NOT_TAIL = re.compile(
    r"\b(?:if|whether|suppose|doubt|unless|think|not|perhaps|maybe|claim|neither|either)\b[^.\n]*$", IGNORE
)

LEAD = re.compile(
    r"(?:[\s:：*_=,】]|\\?[\"“](?=\$|\\\()|\b"
    + any_of(
        "clearly; therefore; thus; hence; simply; just; exactly;"
        "equal to; given by; obviously; indeed; now; then; definitely;"
        "precisely; found to be; so; certainly; of course; surely; option; choice; always;"
        "only; that; approximately; about; roughly; around;"
        "for sure; for certain; without (?:a )?doubt; no doubt; in fact; undoubtedly; evidently"
    )
    + r"\b)+",
    IGNORE,
)
"""Words before an announced answer that say nothing."""

CONNECTIVE = re.compile(
    r"\s*(?:,\s*)?(?:\b"
    + any_of(
        "because; since; as; which; so; where; when; for; by;"
        "after; given; from; with; using; thanks; via; namely; meaning;"
        "making; including; not"
    )
    + r"\b|--|—|\s-\s|=>|⇒|因为|,\s*(?:the|we|this|that|it)\b).*",
    IGNORE | re.DOTALL,
)
"""Where an announced answer ends and its reason begins."""

HEDGE = re.compile(
    r"\b"
    + any_of(
        "if; unless; otherwise; either; maybe;"
        r"perhaps; depending; possibly; unknown; unclear"
    )
    + r"\b|\?",
    IGNORE,
)
"""What makes an announcement no answer: a condition, a question, a doubt."""

DENIED = re.compile(
    r"\s*(?:\b(?:is|was|are|seems|would\s+be)\b\s*(?:(?:clearly|obviously|definitely|certainly)\s+)?)?"
    r"\b(?:not|wrong|incorrect|false|invalid|impossible)\b",
    IGNORE,
)
"""What denies the answer that it follows."""

_STATED = r"\b(?:that|this|it|which|answer|above|box|boxed|value|result)"
_IS = r"(?:['’]s|\s(?:is|was|seems|looks|must\sbe|cannot\sbe))?(?:\s\w+)?\s"
_START = r"(?:^|[.!?\n。])\W*"
WITHDRAWN = re.compile(
    _STATED
    + _IS
    + any_of(
        "wrong; incorrect; not right; not correct; mistaken; not the answer; not the final answer; invalid; a guess;"
        "just a guess; not it"
    )
    + r"\b|"
    + _START
    + any_of("(?:but |oh |hmm,? |no,? )?wait; actually; hold on; hmm; sorry; oops; correction")
    + r"\b|"
    + _START
    + r"no[,.!]|"
    + any_of(
        r"\bwait[,.!…]; \bscratch that\b; \bnever ?mind\b; \btake (?:that|it|this) back\b; \bon second thought;"
        r"\bdisregard (?:that|this|my|the (?:above|box|answer|previous)); \bretract; \bwithdraw;"
        r"\bignore (?:that|this|my|the (?:above|box|answer|previous)); \bis not the (?:final )?answer;"
        r"\bi (?:made|have made|was making) an? (?:mistake|error); \bi (?:do not|don['’]t) know\b;"
        r"\bcan(?:not|['’]t) (?:be right|be correct|determine|be determined); \bunable to (?:solve|determine|finish);"
        r"\bi(?:['’]m| am) (?:not|un)\s?(?:sure|certain|able); \b(?:start|try) (?:over|again)\b;"
        r"\blet me (?:re-?check|recompute|redo|reconsider|re-?think); 错了; 不对; 重新"
    ),
    IGNORE,
)
"""What takes an earlier answer back …"""

CONFIRMED = re.compile(
    r"\b(?:is|was|are|remains|indeed)\s+(?:\w+\s)?(?:correct|right|confirmed|consistent|valid)\b|\bconfirm|\byes\b",
    IGNORE,
)
"""… unless this comes after it."""

COPULA = re.compile(r".*(?:\b(?:is|are|equals|was|equal\s+to)\b|[:：]|是|为)\s*", IGNORE | re.DOTALL)
"""Everything up to the last verb: "The largest such number is"."""
