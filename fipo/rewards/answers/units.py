r"""Units and words after a number, currency before or after it; `fipo.rewards.answers.normal` comes first.

A unit never decides alone: it is left out where only one side names one, and where both do, they must be the same. What
changes the value of a number (`million`, `squared`, `not`) is no unit.
"""

from __future__ import annotations

import re

from fipo.rewards.answers.tables import CHANGES_VALUE, FUNCTIONS, LETTERS, PLAIN, words

_ALIASES = {
    "cm": "centimeter centimeters centimetre centimetres cms",
    "mm": "millimeter millimeters millimetre millimetres",
    "km": "kilometer kilometers kilometre kilometres kms",
    "m": "meter meters metre metres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards yds",
    "mi": "mile miles",
    "g": "gram grams gramme grammes",
    "kg": "kilogram kilograms kilos kgs",
    "mg": "milligram milligrams",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "s": "sec secs second seconds",
    "min": "mins minute minutes",
    "h": "hr hrs hour hours",
    "day": "days 天",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "l": "L liter liters litre litres",
    "ml": "mL milliliter milliliters millilitre millilitres",
    "mph": "mi/h",
    "N": "newton newtons",
    "J": "joule joules",
    "W": "watt watts",
    "V": "volt volts",
    "A": "amp amps ampere amperes",
    "K": "kelvin kelvins",
    "Hz": "hertz",
    "kJ": "kilojoules",
    "eV": "electronvolts",
    "mol": "mole moles",
    "rad": "radian radians",
    "°": "degree degrees deg 度",
    "%": "percent percentage pct percents",
    "$": r"\$ dollar dollars USD usd bucks",
    "cent": "cents ¢",
    "€": "euro euros EUR eur",
    "£": "GBP gbp quid",
    "¥": "元 yuan RMB rmb yen CNY 圆",
    "unit": "units",
    "°C": "℃ celsius",
    "°F": "fahrenheit",
    "Pa": "pascal pascals",
    "km/h": "kph kmh",
    "erg": "ergs",
    "pc": "parsec parsecs",
    "angstrom": "angstroms Angstrom",
}
_OTHERS = words("kW MW kWh kN kV mV mA GB MB KB TB dB AU MeV GeV keV kPa MPa kcal BTU Gy Sv Bq")
_IN_TEXT = words("dm nm ms ns ha ly lm lx cd pt qt")
"""Bare, these may be products of variables."""
_CANONICAL = {alias: unit for unit, aliases in _ALIASES.items() for alias in (unit, *aliases.split())} | {
    unit: unit for unit in _OTHERS
}
_SINGLE = frozenset("mgshLlNJWVAK")
_MULTIPLES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "万": 10**4,
    "亿": 10**8,
}
_CURRENCY = re.compile(r"^([-+]?)\s*(?:US|A|C)?(\\\$|€|£|¥|₹|Rs\.?|USD|EUR|GBP|RMB|CNY|INR)\s*(?=[-\d.\\({])")
_UNIT_START = re.compile(r"\\text\{|(?<![A-Za-z\\{_^])[A-Za-z]|°|%|\\\$|[€£¥¢]|[\u4e00-\u9fff]")
_FRACTION_OF_UNITS = re.compile(r"\\frac\s*\{\s*\\text\{([^{}]*)\}\s*\}\s*\{\s*\\text\{([^{}]*)\}\s*\}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_MINUTES = re.compile(r"(?:(?<=[\d}/])|(?<=/ ))\s*\\(min|sec)$")
_POWER = re.compile(r"\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))$|(?<=[A-Za-z])([23])$")
_AREA = re.compile(r"^(square|sq\.?|cubic)\s+(.+)$|^(平方|立方)(.+)$")
_WORDS = re.compile(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,3}")
_BARE_WORDS = re.compile(
    r"(?:[A-Z]-)?[A-Za-z]{3,}(?:[-'][A-Za-z]{2,}|'s?)*(?: [A-Za-z]{2,}(?:[-'][A-Za-z]{2,}|'s?)*){0,3}"
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_MULTIPLE = re.compile(r"^(.*[\d})])\s*(?:\\text\{)?\s*(hundred|thousand|million|billion|trillion|万|亿)\b\s*\}?(.*)$")
_VALUE_END = re.compile(r"[\d})\]!.°]$|\\pi$|\\infty$")


def split_unit(text: str, *, loose: bool) -> tuple[str, str]:
    """(value, unit); the unit is empty where there is none.

    Args:
        text: in normal form.
        loose: whether a bare letter after a space is a unit (`5 m`): of a response, but not of a reference, where it
            may be a variable.
    """
    text = _MINUTES.sub(r" \\text{\1}", text)
    text = _FRACTION_OF_UNITS.sub(r"\\text{\1/\2}", text)
    currency = _CURRENCY.match(text)
    if currency:
        value, unit = split_unit(currency[1] + text[currency.end() :], loose=loose)
        canonical = _CANONICAL.get(currency[2], currency[2])
        return (value, canonical) if unit in ("", canonical) or _is_words(unit) else (text, "")
    for match in _UNIT_START.finditer(text):
        value = text[: match.start()].rstrip()
        if match.group() == "°" and _TRIGONOMETRIC.search(value):
            continue  # the angle's, not the answer's
        if not value or not _VALUE_END.search(value):
            continue
        unit = _unit(text[match.start() :], apart=text[match.start() - 1] == " ", loose=loose)
        if unit:
            return value.rstrip("*").rstrip(), unit
    return text, ""


def multiplied(text: str) -> tuple[str, int]:
    """`5 million` as 5 and 1000000."""
    match = _MULTIPLE.match(text)
    return (f"{match[1]} {match[3].strip()}".strip(), _MULTIPLES[match[2]]) if match else (text, 1)


def changes_value(said: str) -> bool:
    """Whether words say something of a number beyond what it counts."""
    return any(word in CHANGES_VALUE for word in re.findall(r"[a-z/]+", said.lower()))


def _is_words(unit: str) -> bool:
    return " " in unit or unit.isalpha()


def _unit(text: str, *, apart: bool, loose: bool) -> str:
    """The canonical unit that all of `text` is; empty for none."""
    in_text = text.startswith(r"\text{")
    bare = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    bare = " ".join(bare.split()).replace("° ", "°").replace("°C", "℃").replace("°F", "fahrenheit")
    bare = re.sub(r"\s*([/^*])\s*", r"\1", bare).rstrip(".")
    if not bare:
        return ""
    letters = re.findall(r"[A-Za-z]+", bare)
    if letters and not in_text and not (apart and loose) and all(part in _SINGLE for part in letters):
        return ""
    compound = _compound(bare)
    if compound:
        return compound
    if in_text and bare in _IN_TEXT:
        return bare
    spoken = len(bare) > 2 and _WORDS.fullmatch(bare) if in_text else apart and _BARE_WORDS.fullmatch(bare)
    if spoken and not changes_value(bare) and not _is_product(bare, in_text=in_text):
        return " ".join(_singular(word) for word in bare.lower().split())
    if re.fullmatch(r"[\u4e00-\u9fff]{1,3}", bare):
        return _CANONICAL.get(bare, bare)
    return ""


def _is_product(said: str, *, in_text: bool) -> bool:
    """Whether it may be mathematics: functions, Greek letters, or variables in a row, as in `2 xyz` and `6 abc`."""
    for word in said.lower().split():
        if word in FUNCTIONS or word in PLAIN or word in LETTERS or not re.search("[aeiouy]", word):
            return True
        if word in _ALPHABET or (not in_text and len(word) == 3 and list(word) == sorted(set(word))):
            return True
    return False


def _compound(text: str) -> str:
    """Known units: `km/h`, `m/s^2`, `square feet`, `kg*m^2`, `dollars per hour`."""
    area = _AREA.match(text)
    if area:
        inner, power = area[2] or area[4], "3" if (area[1] or area[3]) in ("cubic", "立方") else "2"
        return f"{canonical}^{power}" if (canonical := _compound(inner)) else ""
    parts = re.split(r"(/| per |\*| )", text)
    units = []
    for part in parts:
        if part in ("/", " per ", "*", " "):
            units.append("/" if part in ("/", " per ") else "*")
            continue
        raised = _POWER.search(part)
        name = part[: raised.start()] if raised else part
        if name not in _CANONICAL:
            return ""
        units.append(_CANONICAL[name] + (f"^{raised[1] or raised[2] or raised[3]}" if raised else ""))
    return _CANONICAL.get("".join(units), "".join(units))


def _singular(word: str) -> str:
    if word in _CANONICAL:
        return _CANONICAL[word]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
