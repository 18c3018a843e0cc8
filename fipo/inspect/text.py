"""Text of a model, made visible: what steers a terminal or turns the direction of writing is shown, and not done."""

from __future__ import annotations

import unicodedata

_JOINERS = {"\u200c", "\u200d"}
"""Zero-width characters that emoji and several scripts need."""


def visible(text: str) -> str:
    """Line ends as ⏎, tabs as ⇥, spaces and letters as they are, other invisible characters as ‹U+202E›."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎\n"
    if character == "\t":
        return "⇥\t"
    if character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"):
        return character
    return f"‹U+{ord(character):04X}›"


def line(text: str, characters: int = 200) -> str:
    """The beginning of a text in one line."""
    joined = " ".join(visible(text[: 2 * characters]).replace("⏎", " ").replace("⇥", " ").split())
    return joined if len(joined) <= characters and len(text) <= 2 * characters else f"{joined[:characters]}…"
