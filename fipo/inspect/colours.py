"""What a token can be coloured by: the quantities, and how deep the colour of a value is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEPTHS = 8
"""Steps of colour on each side of the middle."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that each token has."""

    key: str
    """In addresses: `?colour=f`."""
    name: str
    what: str
    """One line for people."""
    middle: float | None
    """The value without colour, with blue below and orange above; None: from 0 upwards."""


QUANTITIES = {
    one.key: one
    for one in (
        Quantity("f", "f", "influence weight: what FIPO multiplies the token's advantage by", 1.0),
        Quantity("future_kl", "Future-KL", "how far the policy moved on the token and all after it, in nats", 0.0),
        Quantity("log_ratio", "log-ratio", "how much likelier the updates so far have made the token, in nats", 0.0),
        Quantity("entropy", "entropy", "how undecided the policy was here, in nats", None),
        Quantity("advantage", "advantage", "how much better than its siblings the response was", 0.0),
        Quantity("mismatch", "mismatch", "trainer's minus engine's log-prob, in nats", 0.0),
        Quantity("surprise", "surprise", "minus the log-prob with which the engine sampled it, in nats", None),
    )
}


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to colours."""

    quantity: Quantity
    reach: float
    """Distance from the middle that has the deepest colour; those farther have it too. 0: nothing differs."""

    @property
    def ends(self) -> tuple[float, float]:
        """Values of the deepest colours."""
        middle = self.quantity.middle
        return (0.0, self.reach) if middle is None else (middle - self.reach, middle + self.reach)

    @property
    def classes(self) -> list[str]:
        """CSS classes from one end to the other, for the legend."""
        low = 0 if self.quantity.middle is None else -DEPTHS
        return [self._class(depth) for depth in range(low, DEPTHS + 1)]

    def colour(self, values: NDArray[np.float32]) -> list[str]:
        """The CSS class of each value; empty where it is not known."""
        deviations = values - (self.quantity.middle or 0.0)
        depths = np.clip(np.round(DEPTHS * deviations / (self.reach or np.inf)), -DEPTHS, DEPTHS)
        return ["" if np.isnan(depth) else self._class(int(depth)) for depth in depths]

    def _class(self, depth: int) -> str:
        if self.quantity.middle is None:
            return f"s{max(depth, 0)}"
        return f"above{depth}" if depth > 0 else f"below{-depth}" if depth < 0 else "middle"


def scale_of(quantity: Quantity, shown: Sequence[NDArray[np.float32]]) -> Scale:
    """One scale for all responses that are shown: it ends where one in a hundred tokens lies beyond.

    That of f, which is clipped, and of the advantage, which is that of whole responses, ends at the farthest value.
    """
    values = np.concatenate([*shown, np.zeros(0, np.float32)])
    distances = np.abs(values[np.isfinite(values)] - (quantity.middle or 0.0))
    share = 1.0 if quantity.key in ("f", "advantage") else 0.99
    reach = float(np.quantile(distances, share)) if len(distances) else 0.0
    return Scale(quantity, reach or float(distances.max(initial=0.0)))
