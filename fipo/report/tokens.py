"""A response with each token coloured by its influence weight."""

from __future__ import annotations

from dataclasses import dataclass

from fipo.figures import ABOVE, BELOW
from fipo.report.data import TokenInfluence

SHOWN_TOKENS = 600
"""Of a longer response, the beginning and the end are shown, three parts to one."""


@dataclass(frozen=True, slots=True)
class ColouredToken:
    """One token as the report shows it."""

    text: str
    """With visible line ends."""
    colour: str
    """CSS background."""
    note: str
    """The numbers behind the colour."""
    breaks: bool
    """A line ends here."""


@dataclass(frozen=True, slots=True)
class ColouredResponse:
    """The tokens, and how to read their colours."""

    head: tuple[ColouredToken, ...]
    tail: tuple[ColouredToken, ...]
    """Empty when the whole response is in `head`."""
    left_out: int
    """Tokens between the two."""
    low: float
    """The weight shown in full blue."""
    high: float
    """The weight shown in full orange."""
    scale: str
    """CSS gradient from `low` over 1 to `high`."""


def coloured(influence: TokenInfluence) -> ColouredResponse:
    """Blue below 1, orange above, the deeper the farther; the scale is symmetric and ends at the farthest weight."""
    reach = max((abs(weight - 1.0) for weight in influence.influence_weights), default=0.0)
    tokens = [
        ColouredToken(
            text=text.replace("\n", "⏎"),
            colour=_colour((weight - 1.0) / reach if reach else 0.0),
            note=f"token {index}: f = {weight:.3f}, log ratio {log_ratio:+.4f}, advantage {influence.advantage:+.2f}",
            breaks="\n" in text,
        )
        for index, (text, weight, log_ratio) in enumerate(
            zip(influence.tokens, influence.influence_weights, influence.log_ratios)
        )
    ]
    left_out = max(0, len(tokens) - SHOWN_TOKENS)
    head = SHOWN_TOKENS * 3 // 4 if left_out else len(tokens)
    return ColouredResponse(
        head=tuple(tokens[:head]),
        tail=tuple(tokens[head + left_out :]),
        left_out=left_out,
        low=1.0 - reach,
        high=1.0 + reach,
        scale=f"linear-gradient(to right, {', '.join(_colour(position / 4) for position in range(-4, 5))})",
    )


def _colour(deviation: float) -> str:
    """CSS colour of a deviation in [-1, 1]; white at 0. At 72 % opacity dark text stays readable on the deepest."""
    red, green, blue = (int((ABOVE if deviation > 0 else BELOW)[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {0.72 * abs(deviation):.3f})"
