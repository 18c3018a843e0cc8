"""Draw docs/influence.svg: log-ratio, Future-KL and influence weight of one response of a real run.

python docs/draw_influence.py runs/demo/train/<id>/records/influence.jsonl --step 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fipo.figures import ABOVE, BELOW, INK, MUTED, styled


@styled
def draw(sample: dict[str, Any]) -> Figure:
    """Three panels over the same tokens, from what is measured to what is used."""
    figure = Figure(figsize=(8.5, 5.4))
    axes = figure.subplots(3, 1)
    positions = range(len(sample["tokens"]))
    quantities = (
        ("log_ratio (Eq. 3): how the policy has moved on this token", "log_ratio", 0.0, "{:+.2f}"),
        ("future_kl (Eq. 6): on this token and all after it", "future_kl", 0.0, "{:+.2f}"),
        ("f (Eq. 7): what the token's advantage is multiplied by", "influence_weights", 1.0, "{:.2f}"),
    )
    for ax, (title, name, neutral, text) in zip(axes, quantities):
        values = sample[name]
        colours = [ABOVE if value > neutral else BELOW for value in values]
        ax.bar(positions, [value - neutral for value in values], bottom=neutral, color=colours, width=0.7)
        ax.axhline(neutral, color=MUTED, linewidth=0.9)
        ax.margins(y=0.28)
        ax.set_title(title)
        ax.set_xticks(positions, sample["tokens"], color=INK, family="monospace")
        for position, value in zip(positions, values):
            above = value >= neutral
            ax.annotate(
                "0" if abs(value) < 0.005 else text.format(value),
                (position, value),
                xytext=(0, 3 if above else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=7.5,
                color=MUTED,
            )
    return figure


def main() -> None:
    """Read the sample and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path, help="influence.jsonl of a run")
    parser.add_argument("--step", type=int, required=True, help="which of the run's samples")
    parser.add_argument("--output", type=Path, default=Path("docs/influence.svg"))
    options = parser.parse_args()
    samples = [json.loads(line) for line in options.samples.read_text(encoding="utf-8").splitlines()]
    sample = next(sample for sample in samples if sample["step"] == options.step)
    draw(sample).savefig(options.output, metadata={"Date": None})
    print(f"{options.output}: {sample['prompt']!r}, advantage {sample['advantage']:+.2f}")


if __name__ == "__main__":
    main()
