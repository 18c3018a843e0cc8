"""How fipo's figures look: one palette, one set of matplotlib settings, SVG that can stand in any page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#0f172a"
MUTED = "#64748b"
GRID = "#e8ecf1"
BEFORE = "#94a3b8"
"""The warm-up model, in every figure."""
AFTER = "#4f46e5"
"""The trained model and its accuracy, in every figure."""
LENGTH = "#0d9488"
"""Response length."""
WARM = "#d97706"
"""A second quantity in a panel."""
BELOW, ABOVE = "#2563eb", "#ea580c"
"""Influence weights under and over 1: blue and orange, told apart by every kind of colour vision."""

PHASES = ("#4f46e5", "#0d9488", "#d97706", "#db2777", "#0284c7", "#65a30d", "#7c3aed", "#94a3b8")
"""Parts of a whole: phases of a step."""

_SETTINGS: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#cbd5e1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlecolor": INK,
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.xmargin": 0.02,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "xtick.color": "#cbd5e1",
    "ytick.color": "#cbd5e1",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "text.color": INK,
    # Names of benchmarks are data: a dollar sign in one is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.constrained_layout.h_pad": 0.06,
}

_Args = ParamSpec("_Args")
_Drawn = TypeVar("_Drawn")


def styled(draw: Callable[_Args, _Drawn]) -> Callable[_Args, _Drawn]:
    """Draw in fipo's style, whatever the process has set."""

    @wraps(draw)
    def in_style(*args: _Args.args, **kwargs: _Args.kwargs) -> _Drawn:
        import matplotlib

        with matplotlib.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return in_style


def panels(count: int, *, width: float = 11.0, height: float = 3.1) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def apart(count: int, *, width: float, height: float = 2.6) -> tuple[list[Figure], list[Axes]]:
    """The same as figures of their own, for a page that sets them one under the other where it is narrow."""
    made = [panels(1, width=width, height=height) for _ in range(count)]
    return [figure for figure, _ in made], [axes[0] for _, axes in made]


def to_svg(figure: Figure, label: str) -> str:
    """The figure as one `<svg>` element for an HTML page: no prologue, no date, ids of its own, read aloud as `label`.

    Text stays text: it takes the page's font and can be searched.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": label})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # This rule would apply to the whole page.
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg role="img" stroke-linejoin="round" stroke-linecap="butt" ', 1).strip()


def to_png(figure: Figure) -> bytes:
    """The figure as PNG at twice the usual resolution, where no SVG is shown; the same drawing, the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()
