"""A tool: Python code that the model writes in a turn is run, and what it prints is what the model is told."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

from fipo.rewards.sandbox.client import Ended, Program, Ran

SHOWN_CHARACTERS = 4000
"""Of what a program prints: half from its beginning, half from its end."""

_OPENING = re.compile(r"```(?:python3?|py)(?:\s+|$)")


class PythonTool:
    """A turn with a closed block of Python is a call, a turn without one the answer.

    The last block is run in the sandbox, each time in a fresh process, and what it printed comes back as a block that
    says `output`.

    Args:
        run: runs a program to its end or its limits.
    """

    def __init__(self, run: Callable[[Program], Ran]) -> None:
        self._run = run

    def reset(self, prompt: str, reference: str, columns: Mapping[str, Any]) -> None:
        """Nothing of the row matters to the tool."""

    def step(self, text: str) -> str | None:
        """The output of the turn's code; None where there is none."""
        code = code_of(text)
        return None if code is None else f"```output\n{_shown(self._run(Program(code)))}\n```\n"

    def grade(self) -> None:
        """The source's grader judges the last turn."""


def code_of(text: str) -> str | None:
    """The last closed block of Python, if there is one outside of an unclosed think tag."""
    said = text.rpartition("</think>")[2]
    found, block = None, None
    for line in said.splitlines() if "<think>" not in said else ():
        if block is not None:
            if line.lstrip().startswith("```"):
                found, block = "\n".join(block), None
            else:
                block.append(line)
        elif opening := _OPENING.search(line):
            code, closing, _ = line[opening.end() :].partition("```")
            found, block = (code.strip(), None) if closing else (found, [code] if code else [])
    return found


def _shown(ran: Ran) -> str:
    """What was printed; of a program that failed also why, in one line."""
    # A fence in the output would end the block.
    return "\n".join(filter(None, [_cut(ran.stdout).strip(), _failure(ran)])).replace("```", "'''")


def _failure(ran: Ran) -> str:
    if ran.ended is Ended.LOST:
        return "ended"
    if ran.ended is not Ended.ITSELF:
        return f"{ran.ended} limit"
    if ran.code == -signal.SIGKILL:  # as the kernel ends what is over its processor time
        return "time limit"
    if not ran.code:
        return ""
    return _cut(ran.stderr.strip().rpartition("\n")[2]) or f"exit code {ran.code}"


def _cut(text: str) -> str:
    half = SHOWN_CHARACTERS // 2
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:half]}\n...\n{text[-half:]}"
