r"""From the text of an answer to its kind.

Tried in this order: words, a choice with its option, lists, unions, relations, sets, tuples and intervals, matrices,
numbers in a base, ratios, quantities; else it is text. What looks like mathematics and cannot be read stays text: it
equals only itself.
"""

from __future__ import annotations

import re
from fractions import Fraction

from fipo.rewards.answers.evaluate import exact
from fipo.rewards.answers.kinds import (
    Answer,
    BaseNumber,
    Choice,
    Empty,
    Group,
    Matrix,
    Quantity,
    Ratio,
    Relation,
    Span,
    Text,
    Union,
)
from fipo.rewards.answers.literals import branches, written_number
from fipo.rewards.answers.normal import closing_brace, normal
from fipo.rewards.answers.parser import parse
from fipo.rewards.answers.split import are_rows, brackets, is_balanced, split, thousands
from fipo.rewards.answers.syntax import Apply, Number, Unreadable
from fipo.rewards.answers.tables import NOTHING, RELATIONS, pairs
from fipo.rewards.answers.units import changes_value, multiplied, split_unit

_CHOICE = re.compile(
    r"(?:\\text\{\s*)?(?:(?:option|choice|answer)\s*:?\s*(?:\}\s*)?)?(?:\\text\{)?\(?\s*(?:\\text\{)?([A-Z])\}?\s*\)?[.:)]?\s*\}?",
    re.IGNORECASE,
)
_OPTION = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:(?:\\text\{)?\(\s*(?:\\text\{)?([A-Za-z])\}?\s*\)\}?[.:]?|([A-Z])\s*[.:)]\s|\\text\{([A-Z])\}\s*[.:)])\s*(.+)",
    re.IGNORECASE,
)
_ANOTHER_OPTION = re.compile(r"\([A-Za-z]\)|\b[B-Z][.):]\s|^(?:\\text\{\s*)?(?:or|and|/|,|;)")
_DENIAL = re.compile(
    r"(?:is|was|are|isn|wasn|cannot|can|would|seems|not)\b(?! enough)|(?:wrong|incorrect|impossible)\W*$", re.IGNORECASE
)
_LABEL = re.compile(r"(?:\\text\{)?([A-Za-z][A-Za-z ]{2,}):\s*\}?\s+(.+)|\\text\{([A-Za-z][A-Za-z ]{2,})\}\s*:\s*(.+)")
_FRENCH = re.compile(r"([\[\]])([^\[\]]+,[^\[\]]+)([\[\]])")
_DIFFERENCE = re.compile(r"(?<=[})\]])\s*-\s*(?=\\\{)")
_WORDS = re.compile(r"[^\W\d_]+(?:(?:\s+|['’]|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2}))[^\W\d_]+)*[.!]?")
_PRODUCT = re.compile(r"[a-z](?: [a-z])*")
_BASE_WORDS = {
    one: int(two)
    for one, two in pairs(
        "two 2 three 3 four 4 five 5 six 6 seven 7 eight 8 nine 9 ten 10 twelve 12 sixteen 16"
    ).items()
}
_BASE = re.compile(
    r"\(?([0-9][0-9A-Za-z]*|[A-F0-9]{2,})\)?\s*"
    rf"(?:_\s*\{{?\s*(\d+|{'|'.join(_BASE_WORDS)})\s*\}}?|(?:in )?\(?base[- ]?\{{?\s*(\d+)\}}?\)?)"
)
_TO = re.compile(r"\s*\\text\{to\}\s*|(?<=\d) to (?=\d)")
_RATIO = re.compile(r"[^:]+(?::[^:]+)+")
_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)(?::[0-5]\d)?")
_HOUR = re.compile(r"0?[1-9]|1[0-2]")
_MERIDIEM = re.compile(r"\s*(?:\\text\{)?\s*([ap])\.?\s?m\.?\s*\}?$", re.IGNORECASE)
_MODULUS = re.compile(
    r"\s*\(?\s*(?:\\[pb]?mod|\bmod(?:ulo)?|\\text\{mod\})(?![A-Za-z])\s*\{?\s*([^{}()]+?)\s*\}?\s*\)?$"
)
_ASIDE = re.compile(r"(.*[\d})%])\s*\((?:\\text\{)?([A-Za-z]{2}[A-Za-z. ,-]*)\}?\)")
_MINUTES = re.compile(r"(-?)(\d+)°\s*(\d{1,2})'(?:\s*(\d{1,2}(?:\.\d+)?)'')?")
_CONDITION = re.compile(r"(.*[^\s,;:])\s*\(([^(),]*(?:[<>]|\\(?:le|ge|ne)(?![a-z]))[^(),]*)\)")
_SCALED = re.compile(r"([^&]+?)\s*\*?\s*([(\[]?\s*\\begin\{(?:[pbB]?matrix|array|smallmatrix)\}.*)")
_MATRIX = re.compile(
    r"\\begin\{(?:[pbB]?matrix|array|smallmatrix)\}(?:\{[lcr|]*\})?(.*?)\\end\{(?:[pbB]?matrix|array|smallmatrix)\}"
)
_CASES = re.compile(
    r"\\begin\{(?:cases|aligned|array|align\*?)\}(?:\{[lcr|]*\})?(.*?)\\end\{(?:cases|aligned|array|align\*?)\}"
)
_BUILDER = re.compile(r"([A-Za-z])\s*(?:\\in\s*([^|:]+?))?\s*(?:\||:)\s*(.+)")
_RELATION = re.compile(
    "(" + "|".join(re.escape(one) + ("(?![A-Za-z])" if one[0] == "\\" else "") for one in sorted(RELATIONS)) + ")"
)
_REALS = re.compile(
    r"\\mathbb\s*\{?\s*R\s*\}?|\\R(?![A-Za-z])|\\text\{all real numbers\}|all real numbers|\\text\{all reals\}"
)
_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+)", re.ASCII)
_IN_A_ROW = re.compile(r"[-+]?[\d.,]+(?:\s+[-+]?[\d.,]+)+")


def interpret(text: str, *, loose: bool) -> Answer | None:
    """The answer that `text` is, or None where it is nothing.

    Args:
        text: as the reader found it.
        loose: of a response; see `fipo.rewards.answers.units.split_unit`.
    """
    found = normal(text)
    return _Interpreter(loose).answer(found) if found else None


class _Interpreter:
    def __init__(self, loose: bool) -> None:
        self.loose = loose

    def answer(self, text: str, depth: int = 0) -> Answer:
        """The kind of a normalised text; `depth` keeps what nests for ever from doing so."""
        text = _french(text)
        if depth > 8 or not is_balanced(text):
            return self._option(text, depth) or _as_text(text)
        words = self._words(text)
        if words is not None:
            return words
        inner = _unenclosed(text)
        return self._option(text, depth) or self._several(text, depth) or self._single(inner, depth)

    def _words(self, text: str) -> Answer | None:
        """A choice, the empty set, or plain words."""
        if text in (r"\emptyset", r"\{\}", r"\{ \}"):
            return Empty()
        spoken = _spoken(text)
        if spoken.lower().rstrip(".!") in NOTHING:
            return Empty()
        if _REALS.fullmatch(text):
            return Span(_infinity(-1), _infinity(1), False, False)
        choice = _CHOICE.fullmatch(text)
        if choice and (choice[1].isupper() or "(" in text or len(spoken) > 2):
            return Choice(choice[1].upper())
        if (
            spoken.lower() in ("infinity", "pi", "inf", "x", "e", "i")
            or not _WORDS.fullmatch(spoken)
            or _PRODUCT.fullmatch(spoken)
        ):
            return None
        return _as_text(text) if len(spoken) > 1 else None

    def _option(self, text: str, depth: int) -> Answer | None:
        match = _OPTION.fullmatch(text)
        if not match or depth > 8 or _ANOTHER_OPTION.search(match[4]) or _DENIAL.match(_spoken(match[4])):
            return None
        enclosed, letter, beside = match[1], match[1] or match[2] or match[3], match[4]
        if not enclosed and not letter.isupper():
            return None
        if enclosed and re.match(r"[\^!*/+_=<>-]|\\(?:le|ge|ne|in|cup|cap)(?![a-z])", beside):
            return None
        if letter.islower() and not beside.startswith((r"\text", " ")) and not beside[0].isupper():
            return None
        return Choice(letter.upper(), self.answer(beside, depth + 1))

    def _several(self, text: str, depth: int) -> Answer | None:
        """Lists: `1, 2`, `1 and 2`, `x>1 or x<0`."""
        condition = _CONDITION.fullmatch(text)
        if condition and re.search(r"[=<>]|\\(?:le|ge|ne|in)(?![a-z])", condition[1]):
            text = f"{condition[1]}, {condition[2]}"
        cases = _CASES.fullmatch(text)
        if cases and "&" not in cases[1].replace(r"\\", ""):
            rows = [row.strip(" ,;") for row in cases[1].split(r"\\") if row.strip(" ,;")]
            return Group(tuple(self.answer(row, depth + 1) for row in rows), "list") if rows else None
        parts, joined = split(thousands(text))
        if len(parts) < 2:
            return None
        if not all(parts):
            return _as_text(text)
        items = tuple(self.answer(part, depth + 1) for part in parts)
        comma = _DECIMAL_COMMA.fullmatch(text)
        decimal = Fraction(f"{comma[1]}.{comma[2]}") if comma else None
        return Group(items if ";" in text or are_rows(text) else _spread(items), "list", joined, decimal)

    def _single(self, text: str, depth: int) -> Answer:
        for attempt in (self._union, self._relation, self._bracketed, self._matrix, self._in_base, self._ratio):
            answer = attempt(text, depth)
            if answer is not None:
                return answer
        return self._quantity(text)

    def _union(self, text: str, depth: int) -> Answer | None:
        parts = split(text, r"\cup")[0]
        if len(parts) > 1:
            return Union(tuple(self.answer(part, depth + 1) for part in parts))
        parts = split(_DIFFERENCE.sub(r"\\setminus ", text), r"\setminus")[0]
        if len(parts) == 2:
            return Union((self.answer(parts[0], depth + 1),), (self.answer(parts[1], depth + 1),))
        return None

    def _relation(self, text: str, depth: int) -> Answer | None:
        sides, operators, start, level = [], [], 0, 0
        for position, character in enumerate(text):
            level += (character in "([{") - (character in ")]}")
            if not level and (match := _RELATION.match(text, position)) and position >= start:
                sides.append(text[start:position].strip())
                operators.append(match[1])
                start = match.end()
        if not operators:
            return None
        sides.append(text[start:].strip())
        if not all(sides):
            return _as_text(text)
        return Relation(tuple(operators), tuple(self.answer(side, depth + 1) for side in sides))

    def _bracketed(self, text: str, depth: int) -> Answer | None:
        found = brackets(text)
        if found is None:
            return None
        opening, inner, closing = found
        if opening == r"\{":
            return self._set(inner, depth)
        parts, joined = split(inner)
        if joined not in (",", "") or not all(parts):
            return None
        if len(parts) == 1:
            return self._column(inner, opening, depth)
        items = tuple(self.answer(part, depth + 1) for part in parts)
        if (opening, closing) in (("(", "]"), ("[", ")")):
            return Span(items[0], items[1], opening == "[", closing == "]") if len(items) == 2 else None
        if all(isinstance(item, Relation) for item in items):
            return Group(items, "list")
        return Group(items, "brackets" if opening == "[" else "tuple")

    def _column(self, inner: str, opening: str, depth: int) -> Answer | None:
        if opening != "(" and opening != "[":
            return None
        matrix = self._matrix(inner, depth) if "matrix" in inner or "array" in inner else None
        return matrix or (self.answer(inner, depth + 1) if opening == "(" and not _is_formula(inner) else None)

    def _set(self, inner: str, depth: int) -> Answer | None:
        builder = _BUILDER.fullmatch(inner)
        if builder and builder[1] not in re.findall(r"(?<![\\A-Za-z])[A-Za-z]", builder[3]):
            return _as_text(rf"\{{{inner}\}}")
        if builder and (not builder[2] or _REALS.fullmatch(builder[2].strip())):
            condition = self.answer(builder[3], depth + 1)
            return Union((condition,)) if isinstance(condition, Relation) else condition
        if builder:
            return _as_text(rf"\{{{inner}\}}")
        parts, joined = split(inner)
        if not all(parts) or joined not in (",", ""):
            return None
        return Group(_spread(tuple(self.answer(part, depth + 1) for part in parts)), "set")

    def _matrix(self, text: str, depth: int) -> Answer | None:
        match = _MATRIX.fullmatch(text)
        if not match:
            return self._scaled(text, depth)
        rows = [row for row in match[1].split(r"\\") if row.strip()]
        return Matrix(tuple(tuple(self.answer(cell.strip(), depth + 1) for cell in row.split("&")) for row in rows))

    def _scaled(self, text: str, depth: int) -> Answer | None:
        """A number before a matrix multiplies its entries."""
        match = _SCALED.fullmatch(text)
        if not match or depth > 8:
            return None
        factor = self._quantity(f"{match[1]}1" if match[1] in ("-", "+") else match[1])
        matrix = self._single(match[2], depth + 1)
        if not isinstance(factor, Quantity) or not isinstance(matrix, Matrix):
            return None
        rows = [[_times(factor, cell) for cell in row if isinstance(cell, Quantity)] for row in matrix.rows]
        return Matrix(tuple(map(tuple, rows))) if list(map(len, rows)) == list(map(len, matrix.rows)) else None

    def _in_base(self, text: str, depth: int) -> Answer | None:
        match = _BASE.fullmatch(re.sub(r"\\text\{([^{}]*)\}", r"\1", text))
        if not match:
            return None
        base = int(_BASE_WORDS.get(match[2], match[2]) if match[2] else match[3])
        digits = match[1].upper().lstrip("0") or "0"
        if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits):
            return None
        return BaseNumber(digits, base)

    def _ratio(self, text: str, depth: int) -> Answer | None:
        meridiem = _MERIDIEM.search(text)
        body = _TO.sub(":", text[: meridiem.start()] if meridiem else text)
        label = _LABEL.fullmatch(text)
        if label and not changes_value(name := label[1] or label[3]):
            return Relation(("=",), (Text(plain(name)), self.answer(label[2] or label[4], depth + 1)))
        if meridiem and _HOUR.fullmatch(body):
            body += ":00"
        if not _RATIO.fullmatch(body):
            return None
        terms = [self._quantity(part.strip()) for part in body.split(":")]
        if not all(isinstance(term, Quantity) for term in terms):
            return None
        suffix = meridiem[1].lower() if meridiem else ""
        return Ratio(tuple(term for term in terms if isinstance(term, Quantity)), bool(_TIME.fullmatch(body)), suffix)

    def _quantity(self, text: str) -> Answer:
        """A number or expression; `±` makes two of it."""
        modulus = _MODULUS.search(text)
        if modulus and modulus.start():
            inner = self._quantity(text[: modulus.start()].strip())
            if isinstance(inner, Quantity):
                return Quantity(inner.node, f"mod {modulus[1].strip()}", inner.decimals, inner.value)
        if minutes := _MINUTES.fullmatch(text):
            degrees = Fraction(minutes[2]) + Fraction(minutes[3]) / 60 + Fraction(minutes[4] or 0) / 3600
            signed = -degrees if minutes[1] else degrees
            return Quantity(Number(signed), "°", None, signed)
        whole = text
        aside = _ASIDE.fullmatch(text)
        if aside and not changes_value(aside[2]):
            whole = aside[1]
        if _IN_A_ROW.fullmatch(text) and " " in thousands(text):
            return _as_text(text)
        whole, factor = multiplied(whole)
        value, unit = split_unit(whole, loose=self.loose)
        value = re.sub(r"\s*(?:\\dots|\.\.\.)$", "", value)
        number = written_number(value)
        try:
            node = Number(number[0]) if number else parse(thousands(value))
        except (Unreadable, RecursionError):
            return _as_text(text)
        if factor != 1:
            node = Apply("*", (node, Number(Fraction(factor))))
        decimals = number[1] if number and factor == 1 else None
        both = branches(node)
        if len(both) > 1:
            return Group(tuple(Quantity(branch, unit, None, exact(branch)) for branch in both), "list")
        return Quantity(node, unit, decimals, number[0] if number and factor == 1 else exact(node))


def _spread(items: tuple[Answer, ...]) -> tuple[Answer, ...]:
    r"""`\pm 1, 2` has three items."""
    return tuple(
        one for item in items for one in (item.items if isinstance(item, Group) and item.shape == "list" else (item,))
    )


def _times(factor: Quantity, cell: Quantity) -> Quantity:
    node = Apply("*", (factor.node, cell.node))
    return Quantity(node, value=exact(node))


def _as_text(text: str) -> Text:
    symbols = None
    if re.fullmatch("[A-Za-z]{2,3}", text):
        try:
            symbols = parse(text)
        except Unreadable:
            symbols = None
    return Text(plain(text), symbols)


def plain(text: str) -> str:
    """Text in its normal form: words without `\\text`, one space, no capitals, no full stop; nothing is left out."""
    return " ".join(_spoken(text).split()).rstrip(".!").strip().casefold()


def _spoken(text: str) -> str:
    return " ".join(re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).split())


def _unenclosed(text: str) -> str:
    """Without a pair of parentheses or braces around all of one formula."""
    while text[:1] == "{" and closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _french(text: str) -> str:
    """`]1,2]` is `(1,2]`."""
    match = _FRENCH.fullmatch(text)
    if not match or (match[1], match[3]) == ("[", "]"):
        return text
    return f"{'[' if match[1] == '[' else '('}{match[2]}{']' if match[3] == ']' else ')'}"


def _is_formula(text: str) -> bool:
    try:
        parse(text)
    except (Unreadable, RecursionError):
        return False
    return True


def _infinity(sign: int) -> Quantity:
    node = parse(r"\infty")
    return Quantity(node if sign > 0 else Apply("neg", (node,)))
