"""The live display of a run in a terminal: its steps as a checklist, how far the present one is, the newest numbers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fipo.report import wording
from fipo.run.stages import Pace, Stage, read_pace, read_stages
from fipo.run.step import steps_to

TAIL_BYTES = 1 << 16
"""Of a journal; its newest step is in there."""
MARKS = {"done": ("✓", "green"), "running": ("▶", "blue"), "failed": ("✕", "red"), "stopped": ("✕", "yellow")}
NUMBERS = {
    "accuracy": ("rollout/accuracy", "{:.3f}"),
    "validation": ("validation/accuracy", "{:.3f}"),
    "tokens": ("rollout/response_tokens_mean", "{:.1f}"),
    "f": ("train/influence_weight_mean", "{:.3f}"),
    "±": ("train/influence_weight_std", "{:.3f}"),
    "loss": ("sft/loss", "{:.4f}"),
}
"""What is shown of a step: its name there, the metric, and how it is written."""


@contextmanager
def live_display(folder: Path, goal: str) -> Iterator[None]:
    """Show the run in `folder` below what is printed inside, on the way to the step `goal`; only in a terminal."""
    if not sys.stdout.isatty():
        yield
        return
    display = Display(folder, goal)
    # By itself rich looks up `sys.stdout` at each write, and finds the filter that prints through this display.
    with Live(get_renderable=display.render, console=Console(file=sys.stdout), refresh_per_second=2):
        yield


class Display:
    """What the display shows, from the small files that the steps keep."""

    def __init__(self, folder: Path, goal: str) -> None:
        self._folder, self._goal, self._began = folder, goal, time.time()

    def render(self) -> RenderableType:
        """As it is now."""
        # What an earlier pass did is not this one's.
        stages = {step: one for step, one in read_stages(self._folder).items() if one.began >= self._began}
        lines: list[RenderableType] = [self._checklist(stages)]
        *_, present = [None, *stages.values()]
        if present and present.state == "running":
            folder = Path(present.folder)
            paces = read_pace(folder)
            if paces:
                lines.append(_bars(paces))
            if numbers := newest(folder / "journal.jsonl"):
                lines.append(Text("  " + "  ".join(f"{name} {value}" for name, value in numbers.items()), style="dim"))
        return Group(*lines)

    def _checklist(self, stages: Mapping[str, Stage]) -> Text:
        line = Text()
        for step in steps_to(self._goal):
            stage = stages.get(step)
            mark, colour = MARKS[stage.state] if stage else ("○", "dim")
            line.append(f"{mark} ", style=colour).append(step, style="" if stage else "dim")
            if stage and stage.state == "running":
                line.append(f" {wording.duration(time.time() - stage.began)}", style="dim")
            elif stage:
                line.append(f" {'found' if stage.reused else wording.duration(stage.seconds)}", style="dim")
            line.append("   ")
        return line


def newest(journal: Path) -> dict[str, str]:
    """The newest of `NUMBERS` in a journal, by name."""
    if not journal.is_file():
        return {}
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]  # the last is being written
    values: dict[str, float] = {}
    for line in lines:
        if line.startswith(b'{"kind":"metrics"'):  # the first may have no beginning
            values |= json.loads(line)["values"]
    return {name: form.format(values[metric]) for name, (metric, form) in NUMBERS.items() if metric in values}


def _bars(paces: Mapping[str, Pace]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for pace in paces.values():
        left = pace.seconds_left
        table.add_row(
            Text(f"  {pace.what}"),
            ProgressBar(total=pace.total or 1, completed=pace.done, width=30),
            Text(f"{pace.done:,} of {pace.total:,}"),
            Text(f"{pace.speed}  {wording.duration(left)} left" if left is not None else "", style="dim"),
        )
    return table
