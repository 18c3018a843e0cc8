"""Programs that do harm, and programs that cheat: nothing comes of either. Honest ones pass."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import psutil
import pytest

import fipo
from fipo.outcome import Outcome
from fipo.rewards.sandbox.client import Program, Sandbox
from fipo.rewards.sandbox.judge import judge
from tests.hostile_programs import CALLS, CHEATS, HARMFUL, HONEST, SCRIPTS, suite
from tests.present import present
from tests.waiting import wait_until, wait_until_gone


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_programs_do_no_harm(sandbox, tmp_path, monkeypatch, name):
    monkeypatch.setenv("FIPO_SECRET", "hidden")
    (tmp_path / "secret").write_text("secret")
    code, ending = HARMFUL[name]
    grade = judge(code.replace("{outside}", str(tmp_path)), suite({"inputs": [""], "outputs": ["secret"]}), sandbox)
    assert grade.outcome is Outcome.WRONG and re.search(ending, grade.explanation), grade.explanation
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"secret": "secret"}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_earn_nothing(confined, name):
    for layout in (CALLS, SCRIPTS):
        grade = judge(CHEATS[name], suite(layout), confined)
        assert grade.outcome is Outcome.WRONG and present(grade.score) < 1.0, grade.explanation


def test_there_are_cheats_enough():
    assert len(CHEATS) >= 25


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass(sandbox, name):
    marks = (("def add", CALLS), ("input()", SCRIPTS), ("stdin", SCRIPTS))
    asked = [layout for mark, layout in marks if mark in HONEST[name]]
    assert asked
    for layout in asked:
        grade = judge(HONEST[name], suite(layout), sandbox)
        assert grade.outcome is Outcome.CORRECT, grade.explanation
        assert grade.score == 1.0


def test_what_a_program_leaves_is_gone_for_the_next(sandbox):
    sandbox.run(Program("try: open('/tmp/left', 'w').write('x')\nexcept OSError: pass"))
    ran = sandbox.run(Program("import os\nprint(os.path.exists('/tmp/left'))"))
    assert ran.stdout == "False\n"


def test_a_program_gets_nothing_but_its_pipes(sandbox):
    code = "import os\nfor end in range(256):\n    try: os.fstat(end); print(end)\n    except OSError: pass"
    # 3, the request, is read and closed before the program begins.
    assert sandbox.run(Program(code)).stdout.split() == ["0", "1", "2", "4"]
    environment = sandbox.run(Program("import os\nprint(sorted(os.environ))")).stdout
    assert environment == "['HOME', 'LC_CTYPE', 'PYTHONHASHSEED']\n"


def test_equal_programs_have_equal_results(sandbox):
    codes = "print({'apple', 'pear', 'plum', 'fig', 'kiwi', 'lime'})"
    assert len({sandbox.run(Program(codes)).stdout for _ in range(4)}) == 1


def test_many_in_a_row_leave_nothing():
    command = [sys.executable, "-m", "tests.hostile_programs", "--programs", "20", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert report["stray_processes"] == 0 and report["files_outside"] == [] and report["secret_is_as_it_was"]
    assert report["outcomes"] == {"wrong": 20} and report["honest_programs_passed"] == len(HONEST)
    assert report["largest_process_mib"] <= 256


def test_a_program_that_ends_its_sandbox_earns_nothing(monkeypatch):
    with Sandbox() as sandbox:
        run_one = sandbox._run
        monkeypatch.setattr(sandbox, "_run", lambda program: killing(sandbox, run_one, program))
        grade = judge("# kill\nprint(5)", suite(SCRIPTS), sandbox)
        assert (grade.outcome, grade.explanation) == (Outcome.WRONG, "test 1 of 3: sandbox ended")
        assert judge(HONEST["a script"], suite(SCRIPTS), sandbox).outcome is Outcome.CORRECT


def killing(sandbox, run_one, program):
    """Kills the launcher where the program says so."""
    if program.program.startswith("# kill"):
        sandbox._process.kill()
        sandbox._process.wait()
    return run_one(program)


def test_a_virtual_environment_may_hold_a_copy_of_the_interpreter(tmp_path):
    venv.create(tmp_path / "copy", symlinks=False, with_pip=False)
    code = "from fipo.rewards.sandbox.client import Sandbox\nwith Sandbox() as one: print(one.isolation, one.refused)"
    command = [str(tmp_path / "copy" / "bin" / "python"), "-c", code]
    environment = {"PYTHONPATH": str(Path(fipo.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    with Sandbox() as ours:
        assert (done.stdout.strip(), done.returncode) == (f"{ours.isolation} {ours.refused}".strip(), 0), done.stderr


TRAINER = """
import sys
from fipo.rewards.sandbox.client import Limits, Program, Sandbox
sandbox = Sandbox(Limits(cpu_seconds=100.0))
print("ready", flush=True)
sandbox.run(Program("import time\\ntime.sleep(1000)"))
"""


def test_no_program_outlives_who_asked_for_it():
    with subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE) as asking:
        try:
            assert present(asking.stdout).readline() == b"ready\n"
            own = psutil.Process(asking.pid)
            sleeping = wait_until(
                lambda: [
                    one for one in own.children(recursive=True) if any("sandbox, as" in part for part in one.cmdline())
                ]
            )
            started = own.children(recursive=True)
        finally:
            os.kill(asking.pid, 9)
    assert sleeping
    wait_until_gone(started)
