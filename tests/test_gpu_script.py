"""The script for a lent card does what it can, and keeps what it has found whatever comes after."""

import json
import sys
from importlib.util import find_spec

from benchmarks import gpu


def test_its_parts_are_there():
    modules = {command[0] for part in gpu.PARTS for command in (part.command, part.tiny)}
    assert all(find_spec(module) for module in modules)
    assert sum(part.seconds for part in gpu.PARTS) < 20 * 60


def test_a_part_that_fails_or_hangs_is_told():
    broken = gpu.Part("x", ("json.tool", "/no/such/file"), ("timeit", "-n", "1", "pass"), 60.0)
    assert "exit code" in broken.run(tiny=False)["failed"]
    assert "failed" not in broken.run(tiny=True)
    hanging = gpu.Part("x", ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)"), ("x",), 1.0)
    assert hanging.run(tiny=False) == {"failed": "not done within 1 s"}


def test_what_was_found_stays_and_nothing_is_begun_too_late(tmp_path, monkeypatch, capsys):
    quick = gpu.Part("quick", ("timeit", "-n", "1", "pass"), ("timeit", "-n", "1", "pass"), 5.0)
    late = gpu.Part("late", ("timeit",), ("timeit",), 600.0)
    monkeypatch.setattr(gpu, "PARTS", (quick, late))
    monkeypatch.setattr(sys, "argv", ["gpu", "--minutes", "5", "--output", str(tmp_path / "gpu.json"), "--json"])
    gpu.main()
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "failed" not in found["quick"] and "not begun" in found["late"]["failed"] and found["machine"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found
