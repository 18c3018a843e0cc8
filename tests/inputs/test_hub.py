"""Models and data sets of the hub: the commit that is loaded, with the hub and without."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from fipo.config import Source
from fipo.data.sources import commit_of
from fipo.errors import ConfigError, DataError

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def home(hub, tmp_path, monkeypatch):
    """A cache of this test's own, and the hub's address, for this process."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def start_from(configure, digests):
    def start_from(name="org/model", revision="", step="sft"):
        config = configure(**{"model": {"name_or_path": name, "revision": revision, "architecture": None}})
        return digests(config, step)["model"]

    return start_from


def keep(home, name, sha, revision="main"):
    """What loading a model leaves in the cache."""
    folder = home / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(sha)
    (folder / "snapshots" / sha).mkdir(parents=True)
    (folder / "snapshots" / sha / "config.json").write_text("{}")


def test_a_model_is_the_commit_that_the_hub_has_now(hub, home, start_from):
    hub.commit("models", "org/model", "v2", {"config.json": "{}"})
    hub.commit("models", "org/model", A, {"config.json": "{}"})
    assert start_from(revision="v2") == "hub:v2"
    assert start_from() == start_from(step="prepare") == f"hub:{A}"
    hub.commit("models", "org/model", B, {"config.json": "{}"})
    assert start_from() == start_from(revision="main") == f"hub:{B}"


def test_a_pinned_model_is_its_pin_and_nobody_is_asked(hub, home, start_from):
    assert start_from(revision=A) == f"hub:{A}"
    assert hub.requests == []


@pytest.mark.parametrize("trouble", ["offline", "unreachable", "broken"])
def test_without_the_hub_a_model_is_the_commit_that_is_kept(hub, home, start_from, monkeypatch, trouble):
    if trouble == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if trouble == "unreachable":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    if trouble == "broken":
        monkeypatch.setattr(hub.RequestHandlerClass, "_answer", lambda self, **_: self._send(503, b"", {}))
    with pytest.raises(
        ConfigError, match=r"model\.name_or_path: 'org/model' is no folder here, .*no copy is kept.*HF_HOM"
    ):
        start_from()
    keep(home, "org/model", C)
    keep(home, "org/model", B, revision="v2")
    assert start_from() == f"hub:{C}"
    assert start_from(revision="v2") == f"hub:{B}"


@pytest.mark.parametrize("name", ["/no/such/folder", "./folder", "org/other"])
def test_a_model_that_is_nowhere_is_named(hub, home, start_from, name):
    hub.commit("models", "org/model", A, {})
    with pytest.raises(
        ConfigError, match=rf"model\.name_or_path: '{name}' is no folder here, .*expected a folder with a m"
    ):
        start_from(name)


# `datasets` reads the environment when it is imported, so that this needs processes.
SCRIPT = """
import json, sys
from fipo.config import Source
from fipo.data.sources import commit_of, read_rows
from fipo.errors import DataError
for line in sys.stdin:
    source = Source(uri="hf://org/problems", revision=line.strip())
    for ask in (commit_of, lambda source: [row.content["prompt"] for row in read_rows(source)]):
        try:
            print(json.dumps(ask(source)), flush=True)
        except DataError as error:
            print(json.dumps(str(error)), flush=True)
"""


@pytest.fixture
def loading(hub, tmp_path):
    """A process that tells the commit and the rows of a revision of a data set; two have one cache."""

    @contextmanager
    def loading(*, offline):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": str(int(offline)),
        }
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        command = [sys.executable, "-c", SCRIPT]
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nothing, text=True) as process:
            asked, told = process.stdin, process.stdout
            assert asked and told

            def load(revision=""):
                asked.write(f"{revision}\n")
                asked.flush()
                return json.loads(told.readline()), json.loads(told.readline())

            yield load
            asked.close()

    return loading


def test_the_commit_of_a_data_set_is_that_of_the_rows_that_are_read(hub, loading):
    with loading(offline=False) as load:
        assert load()[0].startswith("data set 'org/problems': the hub does not give it (404 Client Error")
        hub.commit("datasets", "org/problems", A, {"README.md": "", "train.jsonl": '{"prompt": "old"}'})
        assert load() == (A, ["old"])
        hub.commit("datasets", "org/problems", B, {"README.md": "", "train.jsonl": '{"prompt": "new"}'})
        assert [load(), load(A), load("main")] == [(B, ["new"]), (A, ["old"]), (B, ["new"])]
    with loading(offline=True) as load:
        assert [load(), load(B)] == [(B, ["new"]), (B, ["new"])]
        commit, refused = load(A)  # for which `datasets` would give the rows of B
        assert commit == A
        assert refused.startswith(f"data set 'org/problems': revision {A} is asked for, the hub cannot be reached, and")


def test_without_the_hub_a_data_set_that_is_not_kept_is_refused_at_once(home, monkeypatch):
    """`datasets` would try it for half a minute."""
    import datasets  # noqa: F401 - takes its time too

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"data set 'org/nothing': the hub does not give it \(.*no copy is kept"):
        commit_of(Source(uri="hf://org/nothing"))
    assert time.monotonic() - began < 10


def test_a_data_set_enters_a_step_with_its_commit(hub, configure, digests):
    config = configure([{"uri": "hf://org/problems", "revision": A}, {"uri": "hf://org/problems", "revision": B}])
    found = digests(config, "prepare")
    assert (found["data.train[0]"], found["data.train[1]"]) == (f"hub:{A}", f"hub:{B}")
    assert hub.requests == []
