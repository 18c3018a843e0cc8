"""`make -C k8s try` without podman: its steps as processes of this machine, whose volume is the folder itself."""

import sys
from pathlib import Path

import pytest

from k8s import try_image

PODMAN = """
import os, subprocess, sys
flags, at = {}, 2
while sys.argv[at].startswith("--"):
    name, _, value = sys.argv[at].partition("=")
    flags[name], at = value, at + 1
image, *command = sys.argv[at:]
assert image == "registry/fipo:1" and "--read-only" in flags and flags["--user"] == "10001:10001"
volume, _, mounted = flags["--volume"].partition(":")
if "the root file system is writable" not in command[-1]:  # that is asked of the image itself
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    words = [flags["--entrypoint"], *(word.replace(mounted, volume) for word in command)]
    sys.exit(subprocess.run(["env", f"PATH={path}", *words]).returncode)
"""


@pytest.mark.slow
def test_its_steps_run_and_what_it_asks_of_them_is_there(tmp_path, monkeypatch, capfd):
    podman = tmp_path / "podman.py"
    podman.write_text(PODMAN)
    monkeypatch.setenv("PODMAN", f"{sys.executable} {podman}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(Path(try_image.__file__).parents[1])
    try_image.main("registry/fipo:1")
    assert "configure, prepare and sft ran" in capfd.readouterr().out
