r"""One spelling of an answer: Unicode becomes LaTeX, dressing goes, `\text{…}` stays as it is; nothing is judged.

What is left has: `\frac`, `\binom`, `\sqrt`, `*` for every product sign, `\le \ge \ne`, `°`, `%`, `\$`, `|`, `\{ \}`,
`\text{words}`, single spaces.
"""

from __future__ import annotations

import re
import unicodedata

from fipo.rewards.answers.tables import (
    DROPPED,
    FRACTIONS,
    FUNCTIONS,
    GREEK,
    INVISIBLE,
    LOWERED,
    RAISED,
    RENAMED,
    REPLACED,
    SPACES,
    SPACING,
    SYMBOLS,
    UNDRESSED,
    WORDED,
)

MAX_DEPTH = 20
"""So many layers of dressing are taken off."""

_TABLE = str.maketrans(
    {
        **SYMBOLS,
        **GREEK,
        **{one: "\\frac{" + two.replace("/", "}{") + "}" for one, two in FRACTIONS.items()},
        **dict.fromkeys(INVISIBLE, ""),
        **dict.fromkeys(SPACES, " "),
    }
)
_RAISED_RUN, _LOWERED_RUN = re.compile(f"[{''.join(RAISED)}]+"), re.compile(f"[{''.join(LOWERED)}]+")
_ROOT = re.compile(r"([√∛])\s*(\\?[A-Za-z]+|\d+(?:\.\d+)?)?")

_COLOURED = frozenset({"textcolor", "colorbox"})
_UNSEEN = frozenset({"phantom", "hphantom", "vphantom"})
_CONSTANT_LETTERS = frozenset("eidxyznk")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_SPACING = re.compile(
    r"\\[,;:> ]|~|\\hspace\{[^{}]*\}|\\vspace\{[^{}]*\}|\\kern[\d.]+[a-z]+|\\(?:tag|label)\*?\{[^{}]*\}"
)
_DELIMITERS = re.compile(r"(?<!\\)\$|\\[()\[\]]")
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot|overbar)\s*\{(\d+)\}|\\(?:overline|bar|dot)\s*(\d))")
_REPEATING_WHOLE = re.compile(r"(\d+)\.(\d*)\((\d+)\)")
_THOUSANDS_BRACED = re.compile(r"(?<=\d)\s?\{\s?,\s?\}(?=\d{3})|(?<=\d),\\!\s?(?=\d{3}(?!\d))")
_NEGATIVE_SPACE = re.compile(r"(?:\\!\s*)+")
_UNDOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2,}|[{}\[\]()|\\,;!%$])")
_DEGREES = re.compile(r"\^\s*(?:\{\s*(?:\\circ|°)\s*\}|\\circ(?![A-Za-z])|°)")
_PRIMES = re.compile(r"\^\s*(?:\{\s*('(?:\s*')*)\s*\}|(')(?!'))")
_QUAD = re.compile(r"\\q?quad")
_BOLD = re.compile(r"^\s*\*\*([^*]+)\*\*(?=[\s.]*$)")
_LINES = re.compile(r"(?<!\\)\$\s*(?:\n|\\q?quad|\\\\)\s*\$")
_DOTTED = re.compile(r"(\d+)\.(\d*?)(?:(\d)\3\3+|(\d{2,})\4+)\s*(?:\\dots|\.{3})")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_EDGES = re.compile(
    r"^(?:\s|=(?!=)|\\approx(?![A-Za-z])|\\therefore(?![A-Za-z])|\\Rightarrow(?![A-Za-z])|:|\\\\(?=\s|\d))+"
    r"|[\s.,;:\\]+$"
)
_SIGNS = {"**": "^", "<=": r"\le ", ">=": r"\ge ", "!=": r"\ne ", "==": "="}
_TIMES = re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)|(?<=\d)\s+x\s+(?=\d)")
_APOSTROPHES = re.compile(r"(?<=\d)'(?=\d{3}(?!\d))")
_SWITCHED = re.compile(r"\{\s*\\(?:rm|bf|it|sf|tt)(?![A-Za-z])\s*(?:\\[ ,])?([^{}]*)\}")
_INFIX = re.compile(r"\{([^{}]+)\\(choose|over)(?![A-Za-z])([^{}]+)\}")
_ANGLES = re.compile(r"^<([^<>]*,[^<>]*)>$")
_ANNOUNCED = re.compile(
    r"^\s*(?:\\text\{\s*)?(?:so |thus |hence |therefore,? )?(?:the )?(?:final |correct |unique )?"
    r"(?:answer|solution) is\b\s*:?(?:\s*\})?",
    re.IGNORECASE,
)


def normal(text: str) -> str:
    """`text` in the one spelling; what is not known stays as it is."""
    text = _typed(_SWITCHED.sub(r"\\mathrm{\1}", text if text.isascii() else _ascii(text)))
    if "\\" in text or "°" in text:
        text = _DEGREES.sub("°", _REPEATING.sub(_fraction, _commands(_INFIX.sub(_infix, text))))
        text = _PRIMES.sub(lambda match: "'" * match.group().count("'"), text)
    text = _plain_signs(text)
    if dotted := _DOTTED.fullmatch(text.strip()):
        return _fraction(dotted)
    for _ in range(5):
        previous, text = text, _EDGES.sub("", _unwrapped(" ".join(text.split())))
        if previous == text:
            break
    repeating = _REPEATING_WHOLE.fullmatch(text)
    return _fraction(repeating) if repeating else _ANGLES.sub(r"\\langle \1\\rangle", text)


def _typed(text: str) -> str:
    """Without what only moves things about: spaces, delimiters, doubled backslashes."""
    if r"\\begin" in text or r"\begin" not in text:
        text = _UNDOUBLED.sub(r"\\", text)
    text = _THOUSANDS_BRACED.sub("", _LINES.sub(", ", text))
    text = _NEGATIVE_SPACE.sub("", text).replace("\t", " ").replace("\n", " ").replace("\r", " ")
    text = _QUAD.sub(" ", text).replace(r"\$", r"\dollar ").replace(r"\%", "%")
    rows = [_DELIMITERS.sub(" ", _SPACING.sub(" ", row)) for row in text.split("\\\\")]
    return "\\\\".join(rows)


def _plain_signs(text: str) -> str:
    """What is typed on a keyboard as LaTeX has it: `**`, `<=`, `2 x 3`, `1'000`; without "the answer is"."""
    text = _BOLD.sub(r"\1", _ANNOUNCED.sub("", text))
    for sign, other in _SIGNS.items():
        text = text.replace(sign, other)
    return _APOSTROPHES.sub("", _TIMES.sub("*", text))


def _infix(match: re.Match[str]) -> str:
    return rf"\{'binom' if match[2] == 'choose' else 'frac'}{{{match[1]}}}{{{match[3]}}}"


def _ascii(text: str) -> str:
    text = _RAISED_RUN.sub(lambda run: "^{" + "".join(RAISED[one] for one in run.group()) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + "".join(LOWERED[one] for one in run.group()) + "}", text)
    text = _ROOT.sub(_rooted, text).translate(_TABLE)
    return unicodedata.normalize("NFKC", text).translate(_TABLE)


def _rooted(match: re.Match[str]) -> str:
    command = r"\sqrt" if match[1] == "√" else r"\cbrt"
    if match[2] is None:
        return command + " "
    inner = match[2] if match[2][0] == "\\" or match[2].isascii() else unicodedata.normalize("NFKC", match[2])
    if inner.isalpha() and len(inner) > 1:
        return f"{command}{{{inner[0]}}}{inner[1:]}"
    return f"{command}{{{inner}}}"


def _commands(text: str, depth: int = 0) -> str:
    """Commands renamed, replaced or undressed, from left to right; what is dressed without end stays as it is."""
    parts, position = [], 0
    if depth > MAX_DEPTH:
        return text
    while match := _COMMAND.search(text, position):
        if match.start() and text[match.start() - 1] == "\\" and not _escapes(text, match.start()):
            parts.append(text[position : match.end()])
            position = match.end()
            continue
        parts.append(text[position : match.start()])
        replacement, position = _command(text, match, depth + 1)
        parts.append(replacement)
    return "".join(parts) + text[position:]


def _escapes(text: str, position: int) -> bool:
    r"""Whether the backslashes before `position` are whole `\\` (a new row), not the start of this command."""
    count = 0
    while position > count and text[position - count - 1] == "\\":
        count += 1
    return count % 2 == 0


def _command(text: str, match: re.Match[str], depth: int) -> tuple[str, int]:
    """What stands for the command, and where the text goes on."""
    name, end = match[1], match.end()
    if name in _COLOURED or name == "color":
        _, end = _braced(text, end)
        inner, end = _braced(text, end) if name != "color" else ("", end)
        return f" {_commands(inner, depth)} ", end
    if name in _UNSEEN:
        after = _braced(text, end)[1]
        return "", after if after > end else len(text) - len(text[end:].lstrip()[1:])
    if name in UNDRESSED:
        inner, after = _braced(text, end)
        return (f" {_commands(inner, depth)} ", after) if after > end else ("", end)
    if name in WORDED:
        inner, after = _braced(text, end)
        return (_words(inner, depth), after) if after > end else ("", end)
    if name in ("left", "right", "middle") and text[end : end + 1] == ".":
        return " ", end + 1
    if name in REPLACED:
        return REPLACED[name], end
    if name in SPACING or name in DROPPED:
        return (" " if name in SPACING else ""), end
    return "\\" + RENAMED.get(name, name), end


def _words(inner: str, depth: int) -> str:
    r"""Words stay `\text{…}`; names of functions, single letters of mathematics and formulas are themselves."""
    inner = inner.replace("$", " ")
    bare = " ".join(inner.split())
    if bare in FUNCTIONS:
        return f"\\{bare} "
    if len(bare) == 1 and bare in _CONSTANT_LETTERS:
        return f" {bare} "
    if bare and all(one.isalpha() or one == " " for one in bare):
        return rf" \text{{{bare}}} "
    return f" {_commands(inner, depth)} "


def _braced(text: str, position: int) -> tuple[str, int]:
    """The content of the group at `position` and where it ends; empty, and `position`, where there is none."""
    start = position
    while start < len(text) and text[start] == " ":
        start += 1
    if text[start : start + 1] != "{":
        return "", position
    end = closing_brace(text, start)
    return (text[start + 1 : end], end + 1) if end > 0 else ("", position)


def closing_brace(text: str, opening: int) -> int:
    r"""Where the group that opens at `opening` closes, `\{` and `\}` left aside; -1 where it does not."""
    depth = 0
    for match in _BRACE.finditer(text, opening):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if not depth:
                return match.start()
    return -1


def _fraction(match: re.Match[str]) -> str:
    """A repeating decimal as the fraction that it is."""
    whole, first, repeated = match[1] or "0", match[2], match[match.lastindex or 3]
    bottom = (10 ** len(repeated) - 1) * 10 ** len(first)
    top = int(whole + first + repeated) - int(whole + first)
    return rf"\frac{{{top}}}{{{bottom}}}"


def _unwrapped(text: str) -> str:
    """Without braces, stars or quotes around the whole."""
    for _ in range(MAX_DEPTH):
        if (text[:1] == "{" and closing_brace(text, 0) == len(text) - 1) or (
            len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`*"
        ):
            text = text[1:-1].strip()
        else:
            return text
    return text
