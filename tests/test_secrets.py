"""Secrets that a user has set in the environment stand in nothing that a run leaves or says."""

import contextlib
import gzip
import subprocess
import sys
import zlib
from pathlib import Path

import psutil
import pytest

from conftest import SECRETS, TINY


def contents(path):
    """The bytes of a file, and what is in it where it is compressed."""
    data = path.read_bytes()
    yield data
    with contextlib.suppress(OSError, EOFError, zlib.error):
        yield gzip.decompress(data)


def test_nothing_that_a_run_leaves_holds_one(tiny_pipeline):
    """Settings, journal, MLflow's database, objects, logs, the report, Kubeflow's records, and what was printed."""
    files = [path for path in tiny_pipeline.config.run.directory.rglob("*") if path.is_file()]
    assert {"config.yaml", "mlflow.db", "report.html", "result.json"} <= {path.name for path in files}
    found = {
        (name, str(path))
        for path in files
        for data in contents(path)
        for name, secret in SECRETS.items()
        if secret.encode() in data
    }
    assert not found
    assert not [name for name, secret in SECRETS.items() if secret in tiny_pipeline.output]


def test_the_search_would_find_one(tmp_path):
    path = tmp_path / "packed.gz"
    path.write_bytes(gzip.compress(SECRETS["HF_TOKEN"].encode()))
    assert any(SECRETS["HF_TOKEN"].encode() in data for data in contents(path))


@pytest.mark.slow
def test_no_process_of_a_run_has_one_in_its_arguments(tmp_path):
    """Anybody on the machine can list those."""
    command = [sys.executable, "-m", "fipo.cli", "prepare", "--recipe", str(TINY), "--set", f"run.directory={tmp_path}"]
    seen = set()
    with subprocess.Popen(command, env=dict(SECRETS, PATH=str(Path(sys.executable).parent))) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                    seen.add(" ".join(one.cmdline()))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    assert process.returncode == 0 and any("prepare" in line for line in seen)
    assert not [name for name, secret in SECRETS.items() if any(secret in line for line in seen)]
