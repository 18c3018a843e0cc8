"""What a person sees of a local run: the steps' own lines, at once, without Kubeflow's bookkeeping."""

import errno
import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

_EXECUTOR_LOG = re.compile(r"\[KFP Executor [^]]*\]: ")
_RULE = re.compile(r"-{20,}$")


class StepOutput(io.TextIOBase):
    """A stream that passes whole lines on and leaves out the executor's log, its JSON, rules and blank lines."""

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._line = ""
        self._in_json = False

    def write(self, text: str) -> int:
        """Pass on what was completed by `text`."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            line = line.removeprefix("    ")  # kfp indents what a task prints
            if self._wanted(line):
                self._show(line)
        return len(text)

    def _show(self, line: str) -> None:
        try:
            self._target.write(f"{line}\n")
            self._target.flush()
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal has gone, and what that means is for SIGHUP's handler to say
                raise

    def isatty(self) -> bool:
        """As the stream behind."""
        return self._target.isatty()

    def _wanted(self, line: str) -> bool:
        if self._in_json:
            self._in_json = line != "}"
            return False
        if _EXECUTOR_LOG.match(line):
            self._in_json = line.endswith("Got executor_input:")
            return False
        return bool(line.strip()) and not _RULE.match(line)


@contextmanager
def quiet_kubeflow() -> Iterator[None]:
    """Inside, standard output shows the steps alone."""
    logging.disable(logging.ERROR)  # a failed task has said why itself
    try:
        with redirect_stdout(StepOutput(sys.stdout)):
            yield
    finally:
        logging.disable(logging.NOTSET)
