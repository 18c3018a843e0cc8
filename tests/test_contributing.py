"""The first change, as CONTRIBUTING.md walks through it, works in a copy of the checkout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COPIED = ("fipo", "tests", "conftest.py", "pyproject.toml", "docs", "CHANGELOG.md")
WAYS = {".venv/bin/python": sys.executable, ".venv/bin/fipo": f"{sys.executable} -m fipo.cli"}


def commands():
    """One by one, with the text that a command is given; not those of git and make."""
    for block in BLOCKS:
        for command in re.findall(r"^.+<<'EOF'\n(?:.*\n)*?EOF$|^.+$", block, re.MULTILINE):
            if not re.match(r"(git|make) ", command):
                yield command


@pytest.fixture
def checkout(tmp_path):
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_the_first_change_works(checkout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    ran = []
    for command in commands():
        here = command
        for written, meant in WAYS.items():
            here = here.replace(written, meant)
        done = subprocess.run(["bash", "-c", here], cwd=checkout, capture_output=True, text=True)
        assert (done.returncode != 0) == command.endswith("# fails"), f"{command}\n{done.stdout}{done.stderr}"
        ran.append(done.stdout)
    assert "digits: 20" in ran[-4]
    shipped = (checkout / "fipo" / "benchmarks" / "running-sums-20.yaml").read_text()
    assert "grader: math\n" in shipped


def test_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([\w-]+)`|^ *make ([\w-]+)", TEXT, re.MULTILINE))
    assert len(named) > 5
    for target in {first or second for first, second in named}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
