r"""Brackets, separators and thousands of a normalised text."""

from __future__ import annotations

import re

_BRACKET = re.compile(r"\\[{}]|\\langle(?![A-Za-z])|\\rangle(?![A-Za-z])|\\begin|\\end|[()\[\]{}]")
_OPENING = frozenset({"(", "[", "{", r"\{", r"\langle", r"\begin"})
_SEPARATORS = re.compile(
    r",?\s*(?:\\text\{\s*)(and|or)\s*\}|,?\s+(and|or)\s+|(?<=[\d)\]}])(and|or)(?=[\s\d(\\A-Z\[-])|[,;]?\s*(和|与|或|以及)\s*|[,;]\s*(?:\\text\{)?(?:(and|or)\s)?\}?|\s*\\(land|lor)(?![A-Za-z])\s*"
)
_WORD = re.compile(
    r",?\s*(?:\\text\{\s*)(and|or)\s*\}|,?\s+(and|or)\s+|[,;]?\s*(和|与|或|以及)\s*|\s*\\(land|lor)(?![A-Za-z])\s*"
)
_THOUSANDS = re.compile(r"(?<![\d.,\w])(?<!_\{)\d{1,3}(?:,\d{3})+(?![\d,])(?!\.\d*,)")
_SPACED = re.compile(r"(?<![\d.,\w^_])\d{1,3}(?: \d{3})+(?![\d ])|(?<![\d.,\w^_])\d{1,3}(?: \d{3})+(?= [^\d])")
_SEMICOLON = re.compile(r"\s*;\s*")
_COMMANDS = {command: re.compile(re.escape(command) + "(?![A-Za-z])") for command in (r"\cup", r"\setminus")}
_OR = frozenset({"or", "或", "lor"})


def is_balanced(text: str) -> bool:
    """Whether every bracket closes; half-open intervals may mix their kinds."""
    level = 0
    for match in _BRACKET.finditer(text):
        level += 1 if match.group() in _OPENING else -1
        if level < 0:
            return False
    return level == 0


def levels(text: str, *, braces: bool = True) -> list[int]:
    """How deep in brackets each character stands; `braces` of TeX are brackets, or are not."""
    result, level, position = [], 0, 0
    for match in _BRACKET.finditer(text):
        if match.group() in ("{", "}") and not braces:
            continue
        result += [level] * (match.start() - position)
        opens = match.group() in _OPENING
        level += 1 if opens else 0
        result += [level] * (match.end() - match.start())
        level -= 0 if opens else 1
        position = match.end()
    return result + [level] * (len(text) - position)


def _top_level(text: str, character: str) -> bool:
    return any(one == character and not level for one, level in zip(text, levels(text), strict=True))


def split(text: str, command: str = "") -> tuple[list[str], str]:
    """The parts between separators outside brackets, and which: `or`, `and` or `,`; or those between `command`s."""
    pattern = _COMMANDS[command] if command else _SEPARATORS
    if not command and ";" in text and _top_level(text, ";"):
        pattern = _SEMICOLON
    elif not command and "=" in text and are_rows(text):
        pattern = _WORD
    if command not in text or not pattern.search(text):
        return [text.strip()], ""
    depth, parts, start, joined = levels(text), [], 0, ","
    for match in pattern.finditer(text):
        at = match.start()
        while at < match.end() - 1 and text[at] == " ":
            at += 1
        if depth[at]:
            continue
        parts.append(text[start : match.start()].strip())
        start = match.end()
        word = next((group for group in match.groups() if group), "") if not command else ""
        joined = ("or" if word in _OR else "and") if word else joined
    parts.append(text[start:].strip())
    return parts, joined if len(parts) > 1 else ""


def are_rows(text: str) -> bool:
    """`x=1, y=2 or x=3, y=4`: solutions of several values each, between words."""
    rows = _WORD.split(text)[:: _WORD.groups + 1]
    return len(rows) > 1 and all(re.fullmatch(r"[^,=()\[\]]+=[^,=]+(?:,[^,=()\[\]]+=[^,=]+)+", row) for row in rows)


def brackets(text: str) -> tuple[str, str, str] | None:
    r"""(opening, inner, closing) where one pair of brackets holds all of `text`."""
    match = _BRACKET.match(text)
    if not match or match.group() not in _OPENING or match.group() == r"\begin" or match.group() == "{":
        return None
    level = 0
    for one in _BRACKET.finditer(text):
        level += 1 if one.group() in _OPENING else -1
        if not level:
            if one.end() < len(text):
                return None
            return match.group(), text[match.end() : one.start()].strip(), one.group()
    return None


def thousands(text: str) -> str:
    """`1,000` and `1 000` outside brackets as 1000."""
    if "," not in text and " " not in text:
        return text
    depth = levels(text, braces=False)
    return _SPACED.sub(
        lambda match: match.group().replace(" ", ""),
        _THOUSANDS.sub(lambda match: match.group() if depth[match.start()] else match.group().replace(",", ""), text),
    )
