r"""One spelling of an answer: Unicode becomes LaTeX, dressing goes, `\text{…}` stays as it is; no character is judged here.

What is left has: `\frac`, `\binom`, `\sqrt`, `*` for every product sign, `\le \ge \ne`, `°`, `%`, `\$`, `|`, `\{ \}`,
`\text{words}`, single spaces.
"""

from __future__ import annotations

import re
import unicodedata

_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "•": "*", "∗": "*",
    "÷": "/", "⁄": "/", "∕": "/", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ",
    "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "π": r"\pi ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "⌀": r"\emptyset ", "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "∣": "|", "∠": r"\angle ", "△": r"\triangle ", "→": r"\to ", "⇒": r"\Rightarrow ",
    "′": "'", "’": "'", "“": '"', "”": '"', "º": "°", "˚": "°", "℃": r"°\text{C}", "℉": r"°\text{F}", "、": ",", "。": ".", "，": ",",
    "；": ";", "：": ":", "（": "(", "）": ")", "…": r"\dots ", "⋯": r"\dots ", "｜": "|", "∶": ":", "Ω": r"\Omega ",
    "∧": r"\land ", "∨": r"\lor ", "￥": "¥", "∑": r"\sum ", "∫": r"\int ", "µ": r"\mu ",
}  # fmt: skip
_GREEK = {
    chr(code): "\\" + name + " "
    for code, name in {
        **dict(zip(range(0x3B1, 0x3BA), "alpha beta gamma delta epsilon zeta eta theta iota".split(), strict=True)),
        **dict(zip(range(0x3BA, 0x3BF), "kappa lambda mu nu xi".split(), strict=True)),
        **{0x3C1: "rho", 0x3C3: "sigma", 0x3C4: "tau", 0x3C5: "upsilon", 0x3C6: "varphi", 0x3C7: "chi", 0x3C8: "psi"},
        **{0x3C9: "omega", 0x3D5: "phi", 0x393: "Gamma", 0x394: "Delta", 0x398: "Theta", 0x39B: "Lambda", 0x3A3: "Sigma"},
        **{0x3A6: "Phi", 0x3A8: "Psi", 0x3A9: "Omega"},
    }.items()
}
_FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅙": "1/6",
    "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_TABLE = str.maketrans(
    {
        **_GREEK,
        **_SYMBOLS,
        **{one: "\\frac{" + two.replace("/", "}{") + "}" for one, two in _FRACTIONS.items()},
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\t\n\r", " "),
    }
)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n", strict=True))
_RAISED_RUN, _LOWERED_RUN = re.compile(f"[{''.join(_RAISED)}]+"), re.compile(f"[{''.join(_LOWERED)}]+")
_ROOT = re.compile(r"([√∛])\s*(\\?[A-Za-z]+|\d+(?:\.\d+)?)?")

_RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le", "leqslant": "le",
    "leqq": "le", "geq": "ge", "geqslant": "ge", "geqq": "ge", "neq": "ne", "infin": "infty", "rarr": "to",
    "rightarrow": "to", "longrightarrow": "to", "implies": "Rightarrow", "varnothing": "emptyset", "backslash": "setminus",
    "ldots": "dots", "cdots": "dots", "dotsc": "dots", "wedge": "land", "vee": "lor", "iff": "Leftrightarrow", "lg": "lg",
    "arctg": "arctan", "tg": "tan", "ctg": "cot", "arcctg": "arccot", "overleftrightarrow": "overline",
}  # fmt: skip
_REPLACED = {
    "times": "*", "cdot": "*", "cdotp": "*", "ast": "*", "div": "/", "lt": "<", "gt": ">", "lbrace": r"\{", "rbrace": r"\}",
    "colon": ":", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "Vert": r"\|", "lVert": r"\|", "rVert": r"\|",
    "degree": "°", "prime": "'", "quad": " ", "qquad": " ", "displaystyle": " ", "textstyle": " ", "scriptstyle": " ",
    "limits": "", "nolimits": "", "left": "", "right": "", "middle": "", "big": "", "Big": "", "bigg": "", "Bigg": "",
    "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "biggl": "", "biggr": "", "Biggl": "", "Biggr": "", "lbrack": "[",
    "rbrack": "]", "lparen": "(", "rparen": ")", "euro": "€", "pounds": "£", "textdollar": r"\$", "dollar": r"\$",
    "texteuro": "€", "yen": "¥", "percent": "%", "bf": "", "rm": "", "it": "", "large": "", "Large": "", "huge": "", "bold": "",
    "nobreak": " ", "thinspace": " ", "medspace": " ", "enspace": " ", "hfill": " ", "newline": " ", "mathstrut": "",
    "textbackslash": r"\setminus", "triangleq": "=", "coloneqq": "=", "cong": r"\cong", "simeq": r"\approx", "null": "",
    "textdegree": "°", "ang": "",
}  # fmt: skip
_WORDED = frozenset("text textbf textit textrm textsf texttt textup textnormal emph mathrm mbox hbox operatorname rm".split())
_UNDRESSED = frozenset(
    "mathbf mathit mathsf bm boldsymbol pmb underline boxed fbox framebox mathnormal mathord ensuremath displaylines mathop "
    "mathrel mathbin".split()
)
_COLOURED = frozenset({"textcolor", "colorbox"})
_NAMES = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp gcd lcm max min det arccot".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_SPACING = re.compile(r"\\[,;:> ]|~|\\hspace\{[^{}]*\}|\\vspace\{[^{}]*\}|\\kern[\d.]+[a-z]+")
_DELIMITERS = re.compile(r"(?<!\\)\$|\\[()\[\]]")
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot|overbar)\s*\{(\d+)\}|\\(?:overline|bar|dot)\s*(\d))")
_REPEATING_WHOLE = re.compile(r"(\d+)\.(\d*)\((\d+)\)")
_THOUSANDS_BRACED = re.compile(r"(?<=\d)\{,\}(?=\d{3})")
_DEGREES = re.compile(r"\^\s*(?:\{\s*(?:\\circ|°)\s*\}|\\circ(?![A-Za-z])|°)")
_EDGES = re.compile(r"^(?:\s|=(?!=)|\\approx(?![A-Za-z])|\\therefore(?![A-Za-z])|\\Rightarrow(?![A-Za-z])|:)+|[\s.,;:]+$")


def normal(text: str) -> str:
    """`text` in the one spelling; what is not known stays as it is."""
    if not text.isascii():
        text = _ascii(text)
    text = text.replace(r"\!", "").replace("\t", " ").replace("\n", " ").replace("\r", " ")
    text = text.replace(r"\$", r"\dollar ").replace(r"\%", "%")
    rows = [_DELIMITERS.sub(" ", _SPACING.sub(" ", row)) for row in text.split("\\\\")]
    text = _THOUSANDS_BRACED.sub("", "\\\\".join(rows))
    if "\\" in text or "°" in text:
        text = _commands(text)
        text = _REPEATING.sub(_fraction, text)
        text = _DEGREES.sub("°", text)
    text = text.replace("**", "^").replace("<=", r"\le ").replace(">=", r"\ge ").replace("!=", r"\ne ").replace("==", "=")
    previous = ""
    while previous != text:
        previous, text = text, _EDGES.sub("", _unwrapped(" ".join(text.split())))
    repeating = _REPEATING_WHOLE.fullmatch(text)
    return _fraction(repeating) if repeating else text


def _ascii(text: str) -> str:
    text = _RAISED_RUN.sub(lambda run: "^{" + "".join(_RAISED[one] for one in run.group()) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + "".join(_LOWERED[one] for one in run.group()) + "}", text)
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


def _commands(text: str) -> str:
    """Commands renamed, replaced or undressed, from left to right."""
    parts, position = [], 0
    while match := _COMMAND.search(text, position):
        if match.start() and text[match.start() - 1] == "\\" and not _escapes(text, match.start()):
            parts.append(text[position : match.end()])
            position = match.end()
            continue
        parts.append(text[position : match.start()])
        replacement, position = _command(text, match)
        parts.append(replacement)
    return "".join(parts) + text[position:]


def _escapes(text: str, position: int) -> bool:
    r"""Whether the backslashes before `position` are whole `\\` (a new row), not the start of this command."""
    count = 0
    while position > count and text[position - count - 1] == "\\":
        count += 1
    return count % 2 == 0


def _command(text: str, match: re.Match[str]) -> tuple[str, int]:
    """What stands for the command, and where the text goes on."""
    name, end = match[1], match.end()
    if name in _COLOURED or name == "color":
        _, end = _braced(text, end)
        inner, end = _braced(text, end) if name != "color" else ("", end)
        return f" {_commands(inner)} ", end
    if name in _UNDRESSED:
        inner, after = _braced(text, end)
        return (f" {_commands(inner)} ", after) if after > end else ("", end)
    if name in _WORDED:
        inner, after = _braced(text, end)
        return (_words(inner), after) if after > end else ("", end)
    if name in ("left", "right", "middle") and text[end : end + 1] == ".":
        return " ", end + 1
    if name in _REPLACED:
        return _REPLACED[name] + (" " if _REPLACED[name].startswith("\\") and _REPLACED[name][-1].isalpha() else ""), end
    return "\\" + _RENAMED.get(name, name), end


def _words(inner: str) -> str:
    r"""Words stay `\text{…}`; names of functions, single letters of mathematics and formulas are themselves."""
    inner = inner.replace("$", " ")
    bare = " ".join(inner.split())
    if bare in _NAMES:
        return f"\\{bare} "
    if bare in ("e", "i", "d", "x", "y", "z", "n", "k"):
        return f" {bare} "
    if bare and all(one.isalpha() or one == " " for one in bare):
        return rf" \text{{{bare}}} "
    return f" {_commands(inner)} "


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
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, opening):
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
    while len(text) > 1:
        if text[0] == "{" and closing_brace(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        elif (text[0] == text[-1] and text[0] in "\"'`") or (text[:2] == text[-2:] == "**" and len(text) > 4):
            text = text[1:-1].strip()
        else:
            return text
    return text
