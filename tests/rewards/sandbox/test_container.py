"""The sandbox where namespaces are refused, in earnest: as fipo's containers run."""

import json
import os
import subprocess
import sys

import pytest

from tests.hostile_programs import HONEST

PROGRAMS = 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user on a read-only root")
def test_hostile_programs_get_nowhere_in_a_container():
    command = [sys.executable, "-m", "tests.like_a_container", "tests.hostile_programs", "--json"]
    done = subprocess.run([*command, "--programs", str(PROGRAMS)], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["isolation"] in ("seccomp, Landlock, limits", "seccomp, limits")  # Landlock is the kernel's choice
    assert report["outcomes"] == {"wrong": PROGRAMS}
    assert report["stray_processes"] == 0 and report["files_outside"] == [] and report["secret_is_as_it_was"]
    assert report["honest_programs_passed"] == len(HONEST)
