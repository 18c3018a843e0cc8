"""Secrets do not leave the process: by what is printed, logged, said of exceptions, kept in journals and results."""

import json
import logging
import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fipo.config import load_config
from fipo.errors import ConfigError
from fipo.files import private_folder, replacing
from fipo.redaction import find_secret, redact
from fipo.run.run import Run
from fipo.tracking.journal import Journal
from tests.struck import RECIPE

VALUE = 'p"l<a>n/t&ed \\ value'
"""With characters that JSON, pages and addresses write in other ways."""


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", VALUE)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "PGPASSWORD",
        "MLFLOW_TRACKING_PASSWORD",
        "MY_API_KEY",
        "db_password",
        "X_CREDENTIALS",
    ],
)
def test_values_of_secret_variables_are_marked(monkeypatch, name):
    monkeypatch.setenv(name, "a-long-value-of-it")
    assert redact("before a-long-value-of-it after") == f"before <{name}> after"


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "PWD", "KEYMAP", "HOME", "MONKEY"])
def test_other_variables_are_not(monkeypatch, name):
    monkeypatch.setenv(name, "an-ordinary-value")
    assert redact("an-ordinary-value") == "an-ordinary-value" and not find_secret("an-ordinary-value")


def test_a_file_of_credentials_may_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    assert redact(f"reads {tmp_path}") == f"reads {tmp_path}"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at http://me:pass/wo:rd@host:80/x", "at http://<secret>@host:80/x"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://<secret>@h/db"),
        ("https://h/o?X-Amz-Signature=abc&b=1", "https://h/o?X-Amz-Signature=<secret>&b=1"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer <secret>"),
        ("hf_" + "a" * 34, "<secret>"),
        ("AKIA" + "B" * 16, "<secret>"),
        ("glpat-" + "c" * 20, "<secret>"),
        (f"token eyJ{'a' * 20}.eyJ{'b' * 20}.{'c' * 20}!", "token <secret>!"),
    ],
)
def test_credentials_of_known_forms_are_marked(text, clean):
    assert redact(text) == clean


@pytest.mark.parametrize(
    "text", ["s3://bucket/a@b", "http://host:5000/#/x", "file:///a:b/c", "mail me@host", "task-" + "a" * 30]
)
def test_ordinary_text_stays(text):
    assert redact(text) == text and not find_secret(text)


@given(
    st.recursive(
        st.text(max_size=20) | st.sampled_from([VALUE, f"http://u:{VALUE}@h", "?token=x\\"]), st.lists, max_leaves=5
    )
)
def test_json_stays_json(tree):
    os.environ["SOME_API_TOKEN"] = VALUE
    try:
        cleaned = redact(json.dumps({"kind": tree}))
        assert VALUE not in json.dumps(json.loads(cleaned)) and json.dumps(VALUE)[1:-1] not in cleaned
    finally:
        del os.environ["SOME_API_TOKEN"]


PROGRAM = """
import logging, os, sys
handler = logging.StreamHandler(sys.stderr)  # of before
logging.getLogger().addHandler(handler)
from fipo.redaction import guard_output
guard_output()
secret = os.environ["SOME_API_TOKEN"]
print("printed", secret)
logging.warning("logged %s", secret)
try:
    raise ValueError(secret)
except ValueError:
    logging.exception("failed")
raise RuntimeError(f"http://me:{secret}@host and {secret}")
"""


def test_nothing_that_a_process_says_holds_one():
    environment = {**os.environ, "SOME_API_TOKEN": "planted-value"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "planted-value" not in said and said.count("<SOME_API_TOKEN>") >= 4, said
    assert "printed" in said and "logged" in said and "RuntimeError" in said


def test_no_journal_holds_one(planted, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"kind": "params", "values": {"x": VALUE}})
    journal.append({"kind": "tags", "values": {"url": "http://u:hidden@h"}})
    journal.close()
    (first, _), (second, _) = Journal(tmp_path / "journal.jsonl").unsent()
    assert first["values"]["x"] == "<SOME_API_TOKEN>" and second["values"]["url"] == "http://<secret>@h"


@pytest.mark.parametrize(
    "setting",
    ["run.recipe={}", "data.system_prompt='use {} there'", "run.nowhere={}", "model={{name_or_path: '/m/{}'}}",
     "data.train=[{{uri: '/data/{}/rows.jsonl'}}]", "storage.uri=s3://bkt/{}", "tracking.uri=http://host/{}"],
)  # fmt: skip
def test_no_setting_holds_one(monkeypatch, setting):
    monkeypatch.setenv("WANDB_API_KEY", "planted-value")
    with pytest.raises(ConfigError, match="WANDB_API_KEY") as refused:
        load_config(RECIPE, [setting.format("planted-value")])
    assert "planted-value" not in str(refused.value)


def test_no_recipe_holds_a_token_even_of_another_machine(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: {RECIPE}\nrun: {{recipe: hf_{'a' * 34}}}\n")
    with pytest.raises(ConfigError, match=r"run\.recipe: must hold no secret") as refused:
        load_config(recipe)
    assert "aaaa" not in str(refused.value)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_that_hold_settings_are_their_owners_alone(tmp_path):
    runs = tmp_path / "new" / "runs"
    settings = Run(load_config(RECIPE, [f"run.directory={runs}"])).write_settings()
    assert mode(settings) == 0o600
    assert [mode(place) for place in (settings.parent, runs, runs.parent)] == [0o700] * 3
    journal = Journal(settings.parent / "journal.jsonl")
    journal.sent(0)
    assert mode(journal.path) == mode(journal.path.with_suffix(".offset")) == 0o600


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path), mode(tmp_path / "a")) == (0o755, 0o700)
    with replacing(tmp_path / "a" / "file", private=True) as unfinished:
        assert mode(unfinished) == 0o600


def test_a_record_that_cannot_be_formatted_is_logged_as_ever(caplog):
    logging.getLogger("x").warning("plain %s", "words")
    assert "plain words" in caplog.text
