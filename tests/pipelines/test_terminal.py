"""`fipo run` in a real terminal: one of 40 columns, Ctrl-C in it, and one that goes away."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
from pathlib import Path

import psutil
import pytest

from fipo.errors import Interrupted
from fipo.run.stages import read_stages
from tests.waiting import wait_until, wait_until_gone

TINY = Path(__file__).with_name("tiny.yaml")
WIDTH = 40


class Terminal:
    """A pseudo-terminal of `WIDTH` columns with one program in it."""

    def __init__(self, *command):
        self.pid, self.master = pty.fork()
        if not self.pid:
            # The child sets the size itself: nobody is faster than it.
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under `nohup`, as these tests may be, a run outlives it
            # An environment of its own: pytest's readline puts COLUMNS into C's, which `os.environ` does not show.
            own = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
            os.execve(command[0], command, {name: own[name] for name in own.keys() - {"COLUMNS", "LINES"}})
        self.process, self.shown, self._closed = psutil.Process(self.pid), "", False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while not self._closed:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the program has ended
                    return

    def type(self, text):
        os.write(self.master, text.encode())

    def go_away(self):
        self._closed = True
        self.reader.join()
        os.close(self.master)

    def end(self):
        """The exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def frames(self):
        """Lines without the codes that colour them and move the cursor, as the display drew them one after another."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown).replace("\r", "\n").split("\n")

    @property
    def text(self):
        """All of them, wherever they were broken."""
        return " ".join(" ".join(self.frames).split())


@pytest.fixture
def in_terminal(tmp_path):
    """Start the run and wait until its warm-up is at work; what is left of it in the end is killed."""
    opened = []
    sets = (f"run.directory={tmp_path}", "sft.steps=100000", "sft.checkpoint_every=100000")

    def start():
        arguments = [part for one in sets for part in ("--set", one)]
        code = "import sys; from fipo.cli import main; main()"
        opened.append(Terminal(sys.executable, "-c", code, "run", "--recipe", str(TINY), *arguments))
        wait_until(lambda: re.search(r"\[sft\] step (?!100000)\d+/100000", opened[-1].shown))
        return opened[-1]

    yield start
    for terminal in opened:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*terminal.process.children(recursive=True), terminal.process):
                process.kill()


@pytest.mark.slow
def test_a_narrow_terminal_ctrl_c_and_one_that_goes_away(in_terminal, tmp_path):
    """One run after the other in one folder: each stop is one from which the next goes on."""
    terminal = in_terminal()
    wait_until(lambda: "▶ sft" in terminal.text and "━" in terminal.text)
    drawn = [line for line in terminal.frames if any(mark in line for mark in "○▶✓━")]
    assert drawn and max(map(len, drawn)) <= WIDTH, "a longer line would break, and the display run down the screen"
    checklist = " ".join(" ".join(drawn).split())
    assert "✓ prepare" in checklist and "○ register" in checklist, "all of it is there"

    terminal.type("\x03")
    assert terminal.end() == Interrupted.exit_code
    said = " ".join(terminal.shown.split())
    assert "stopped; the same command continues where it was" in said
    assert "Traceback" not in said
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l"), "the cursor is back"
    assert read_stages(tmp_path / "tiny")["sft"].state == "stopped"

    terminal = in_terminal()
    resumed = re.search(r"demonstrations, 1 process\(es\), from step (\d+)", terminal.text)
    assert resumed and int(resumed[1]) > 0
    family = terminal.process.children(recursive=True)
    terminal.go_away()
    assert terminal.end() == Interrupted.exit_code
    wait_until_gone(family)
    assert read_stages(tmp_path / "tiny")["sft"].state == "stopped", "saved, not killed"
