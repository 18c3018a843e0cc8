import contextlib
import io
import os
import pty

import pytest

from fipo_kfp.pipelines.console import StepOutput

FROM_KFP = """    [KFP Executor 2026-11-23 12:00:00,000 INFO]: Looking for component `train`
    [KFP Executor 2026-11-23 12:00:00,000 INFO]: Got executor_input:
    {
        "inputs": {
            "parameterValues": {"recipe": "demo"}
        }
    }
    train: step 1/16
        an indented line
    {"a": 1}

    [KFP Executor 2026-11-23 12:00:00,000 INFO]: Wrote executor output file to /x.
--------------------------------------------------------------------------------
"""


def test_only_the_lines_of_the_steps_pass():
    seen = io.StringIO()
    print(FROM_KFP, end="", file=StepOutput(seen))
    assert seen.getvalue() == 'train: step 1/16\n    an indented line\n{"a": 1}\n'


def test_a_line_passes_once_it_is_whole():
    seen = io.StringIO()
    output = StepOutput(seen)
    output.write("    step")
    assert seen.getvalue() == ""
    output.write(" 1\n")
    assert seen.getvalue() == "step 1\n"


def test_a_terminal_that_goes_away_is_no_error_before_its_signal_comes():
    keeper, there = pty.openpty()
    with os.fdopen(there, "w") as terminal:
        output = StepOutput(terminal)
        output.write("step 1\n")
        assert os.read(keeper, 100) == b"step 1\r\n"
        os.close(keeper)
        output.write("step 2\n")
        with contextlib.suppress(OSError):  # what is left of it is written once more
            terminal.close()


def test_a_full_disk_is_one():
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    with contextlib.suppress(OSError), full, pytest.raises(OSError, match="No space left"):
        StepOutput(full).write("step 1\n")  # and what is left of it is tried once more at the end
