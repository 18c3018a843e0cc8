"""Kubeflow's cron expressions: six fields, seconds first."""

import re

from fipo.errors import ConfigError

FIELDS = {
    "second": (0, 59, ""),
    "minute": (0, 59, ""),
    "hour": (0, 23, ""),
    "day of month": (1, 31, ""),
    "month": (1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    "day of week": (0, 6, "SUN MON TUE WED THU FRI SAT"),
}
"""Name: lowest value, highest value, names of the values from the lowest on."""


def check_cron(expression: str) -> str:
    """Return the expression with single blanks between its fields.

    Raises:
        ConfigError: it has another number of fields, or a field holds what Kubeflow does not understand.
    """
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise ConfigError(
            f"cron {expression!r}: expected {len(FIELDS)} fields ({', '.join(FIELDS)}), found {len(fields)}; "
            "Kubeflow counts seconds first: `0 0 3 * * *` is every night at three"
        )
    for text, (name, (low, high, names)) in zip(fields, FIELDS.items(), strict=True):
        for part in text.split(","):
            if not _valid(part, low, high, names.split()):
                raise ConfigError(
                    f"cron {expression!r}: {name} must be `*`, numbers from {low} to {high}, a range such as "
                    f"`{low}-{high}` or a step such as `*/5`, got {part!r}"
                )
    return " ".join(fields)


def _valid(part: str, low: int, high: int, names: list[str]) -> bool:
    match = re.fullmatch(r"(?P<all>[*?])?(?P<first>\w+)?(-(?P<last>\w+))?(/(?P<step>\d+))?", part, re.ASCII)
    if not match or (match["all"] is None) == (match["first"] is None) or (match["all"] and match["last"]):
        return False
    given = [end for end in (match["first"], match["last"]) if end]
    ends = [number for end in given if (number := _number(end, low, names)) is not None and low <= number <= high]
    return len(ends) == len(given) and ends == sorted(ends) and int(match["step"] or 1) > 0


def _number(text: str, low: int, names: list[str]) -> int | None:
    if text.isdigit():
        return int(text)
    return names.index(text.upper()) + low if text.upper() in names else None
