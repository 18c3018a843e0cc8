from pathlib import Path

import pytest
from kfp import dsl

from components.deploy.component import deploy


def run(common, artifact, *overrides):
    inputs = {**common, "overrides": [*common["overrides"], *overrides]}
    return deploy.python_func(**inputs, registered=artifact("registered", dsl.Model))


def test_is_off_unless_asked_for(common, artifact):
    assert run(common, artifact) == ""
    assert "Nothing is served by this run: `deploy.enabled` is false." in Path(common["summary"].path).read_text()


def test_a_run_without_champion_serves_nothing(common, artifact):
    assert run(common, artifact, "deploy.enabled=true", "registry.model_name=another") == ""
    assert "another has no champion" in Path(common["summary"].path).read_text()


def test_what_cannot_be_served_ends_the_task_with_one_message(common, artifact, capsys):
    with pytest.raises(SystemExit) as ended:
        run(common, artifact, "deploy.enabled=true")
    assert ended.value.code == 2
    assert "deploy: storage.uri: must be an object store that pods can read" in capsys.readouterr().err
