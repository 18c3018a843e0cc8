"""Faults of one rank, on two real ranks: gloo, DeepSpeed."""

import re
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("faults_worker.py")
CASES = re.findall(r"^def (\w+)\(world, folder\):", WORKER.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def passed(warm, tmp_path_factory):
    """Names of the worker's cases that passed, and all that it printed."""
    _, printed = warm.run(WORKER, tmp_path_factory.mktemp("faults"), ranks=2)
    return {line.removesuffix(" ok") for line in printed.splitlines() if line.endswith(" ok")}, printed


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_on_two_ranks(passed, case):
    names, output = passed
    assert case in names, output
