"""The report of a run while it lives: `report.html` in its folder, written again and again by the process that waits
for the step at work.

Written by a thread that gives way to all others, at most a few percent of the time. Whatever goes wrong in it is told
once, and is no matter for the run.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.files import replacing
from fipo.run.stages import WHOLE, read_pace, read_stages
from fipo.run.step import STEPS, steps_to

if TYPE_CHECKING:
    from fipo.report.data import ReportData
    from fipo.run.workspace import Workspace

SHORTEST_SECONDS = 5.0
"""Between two writings."""
SHARE = 1 / 20
"""Of the time, at most, that writing takes."""
NICE = 5
"""Enough to give way; more, and on a machine with other work the page would never be written."""
LAST_SECONDS = 30.0
"""How long the end of a step waits for the page at most."""
REPORT = "report.html"
LONG = {name for name, step in STEPS.items() if step.job} | {"prepare"}
"""Steps that may take long."""
ENDED = ("failed", "stopped")


@contextmanager
def live_page(workspace: Workspace) -> Iterator[None]:
    """Keep the page of the run while one of its steps works; the last writing shows how that has ended."""
    page = LivePage(workspace)
    page.start()
    try:
        yield
    finally:
        page.finish()


class LivePage(threading.Thread):
    """Writes the page until told to finish, and once more then."""

    def __init__(self, workspace: Workspace) -> None:
        # No daemon: Python aborts, and with it a step that is done, when it ends while such a thread draws in C++.
        super().__init__(name="live-page")
        self._workspace = workspace
        self._path = workspace.of_run.directory / REPORT
        self._finished, self._over, self._writing = threading.Event(), False, threading.Lock()
        self._complained = False

    def run(self) -> None:
        """The thread's work."""
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE))  # of it alone
        # A step that judges or registers takes seconds: drawing all curves anew for it would double them.
        quick = self._workspace.step not in LONG
        ended, pause = self._finished.wait(None if quick else 0.2), SHORTEST_SECONDS
        while not ended:
            began = time.thread_time()
            self._write(pause)
            pause = max(SHORTEST_SECONDS, (time.thread_time() - began) / SHARE)
            ended = self._finished.wait(pause)
        stages = read_stages(self._workspace.of_run.directory)
        if not self._over and (not quick or any(stage.state in ENDED for stage in stages.values())):
            self._write(SHORTEST_SECONDS)  # the next step writes it again

    def finish(self) -> None:
        """Write what there is now, and end; a page that is not ready by then would replace what comes after it."""
        self._finished.set()
        self.join(LAST_SECONDS)
        with self._writing:
            self._over = True

    def _write(self, refresh_seconds: float) -> None:
        try:
            page = page_of(self._workspace, refresh_seconds)
            with self._writing:
                if not self._over:
                    with replacing(self._path) as unfinished:
                        unfinished.write_text(page, encoding="utf-8")
        except Exception as error:  # of whatever kind: a page is not worth a run
            if not self._complained:
                self._complained = True
                print(f"{self._path} cannot be written: {error!r}", file=sys.stderr, flush=True)


def page_of(workspace: Workspace, refresh_seconds: float) -> str:
    """The run's page as it is now; `refresh_seconds` is when the next comes, unless the step has failed."""
    from fipo.report.html import build_report

    return build_report(gather_live(workspace, refresh_seconds))


def gather_live(workspace: Workspace, refresh_seconds: float) -> ReportData:
    """What is known of the run while one of its steps works, from the files that the steps have on this machine."""
    from fipo.report.data import Live, ReportData
    from fipo.report.gathered import newest_answers, newest_influence, set_aside, warnings_in
    from fipo.tracking.journal import read_journal, read_said

    config, found = workspace.config, read_stages(workspace.of_run.directory)
    goal = "score" if workspace.step == "score" else "report"
    folders = {step: Path(stage.folder) for step, stage in found.items()}
    journals = {step: folder / "journal.jsonl" for step, folder in folders.items()}
    journals = {step: path for step, path in journals.items() if path.is_file()}
    ended = any(stage.state in ENDED for stage in found.values())
    answers, answers_of = newest_answers(folders["train"] / "records") if "train" in folders else ([], "")
    paces = read_pace(workspace.directory)
    dataset = folders.get("prepare", Path()) / "dataset"
    fipo = config.algorithm.loss == "fipo"
    return ReportData(
        run=config.run.name,
        recipe=config.run.recipe,
        loss=config.algorithm.loss,
        benchmarks=(),
        history=read_journal(journals["train"]) if "train" in journals else (),
        warmup=read_journal(journals["sft"]) if "sft" in journals else (),
        steps=config.train.steps,
        answers=answers,
        answers_of=answers_of,
        set_aside=set_aside(dataset) if (dataset / "manifest.json").is_file() else None,
        warnings=[text for path in journals.values() for text in warnings_in(read_said(path))],
        tokens=newest_influence(folders["train"] / "records" / "influence.jsonl")
        if fipo and "train" in folders
        else None,
        seconds={step: stage.seconds for step, stage in found.items() if stage.seconds},
        live=Live(
            stages={step: found.get(step) for step in steps_to(goal)},
            paces={name: pace for name, pace in paces.items() if name == WHOLE or pace.done < pace.total},
            at=time.time(),
            refresh_seconds=None if ended else refresh_seconds,
        ),
    )
