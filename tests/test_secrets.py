"""Secrets that a user has set in the environment stand in nothing that a run leaves or says."""

import contextlib
import gzip
import os
import stat
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


def test_what_holds_settings_is_its_owners_alone(tiny_pipeline):
    folder = tiny_pipeline.config.run.directory
    names = ("config.yaml", "journal.jsonl", "journal.offset", "identity.json", "mlflow.db")
    # The copy in the object store has the store's own permissions; this one is in a folder of its owner's.
    found = [path for path in folder.rglob("*") if path.name in names and "objects" not in path.parts]
    found = [path for path in found if not {"journal.files", "records", "inputs"} & {*path.parts}]  # copies
    assert {path.name for path in found} == {*names}
    assert {str(path) for path in found if stat.S_IMODE(path.stat().st_mode) != 0o600} == set()
    assert stat.S_IMODE((folder / "tiny").stat().st_mode) == 0o700


HOME_FILES = {
    ".env": "AWS_SECRET_ACCESS_KEY={}\n",
    ".aws/credentials": "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
    ".netrc": "machine localhost login me password {}\n",
    ".pgpass": "*:*:*:me:{}\n",
    ".cache/huggingface/token": "{}",
    ".kaggle/kaggle.json": '{{"key": "{}"}}',
}
"""Where a user may keep them."""
ADDRESSES = {
    "AWS_ENDPOINT_URL": "http://me:{}@127.0.0.1:9",
    "HTTPS_PROXY": "http://me:{}@127.0.0.1:9",
    "KF_PIPELINES_ENDPOINT": "https://me:{}@127.0.0.1:9",
    "PIP_INDEX_URL": "https://me:{}@127.0.0.1:9/simple",
}
"""Variables with an address that holds one."""


@pytest.mark.slow
def test_none_is_taken_along_from_where_a_user_keeps_them(tmp_path):
    """Files of the home and of the folder that a command is given in, and addresses in variables."""
    home = tmp_path / "home"
    for number, (name, text) in enumerate(HOME_FILES.items()):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(*[f"kept-in-a-file-{number}"] * 2))
    variables = {name: text.format(f"kept-in-an-address-{name}") for name, text in ADDRESSES.items()}
    environment = {**os.environ, **SECRETS, **variables, "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "fipo.cli", "prepare", "--recipe", str(TINY), "--set", f"run.directory={runs}"]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # And what fails says nothing either: a store that cannot be reached.
    refused = subprocess.run(
        [*command, "--set", "storage.uri=s3://bucket/x"], cwd=home, env={**environment, "AWS_MAX_ATTEMPTS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode != 0 and "bucket" in refused.stderr
    said = done.stdout + done.stderr + refused.stdout + refused.stderr
    everything = [data for path in runs.rglob("*") if path.is_file() for data in contents(path)]
    for word in ("kept-in-a-file", "kept-in-an-address", *SECRETS.values()):
        assert word not in said and not any(word.encode() in data for data in everything), word


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
