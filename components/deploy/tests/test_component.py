from pathlib import Path

import pytest
from kfp import dsl

from fipo_kfp.components.deploy.component import deploy


@pytest.fixture
def run(common, artifact, page):
    """Deploy with these settings; returns the address."""

    def run(*overrides):
        inputs = {**common, "overrides": [*common["overrides"], *overrides]}
        model = artifact("registered", dsl.Model)
        return deploy.python_func(**inputs, registered_model=model, serving_summary=page)

    return run


def test_is_off_unless_asked_for(run, page):
    assert run() == ""
    assert "Nothing is served by this run: `deploy.enabled` is false." in Path(page.path).read_text()


def test_a_run_without_champion_serves_nothing(run, page):
    assert run("deploy.enabled=true", "registry.model_name=another") == ""
    assert "another has no champion" in Path(page.path).read_text()


def test_what_cannot_be_served_ends_the_task_with_one_message(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("deploy.enabled=true")
    assert ended.value.code == 2
    assert "deploy: storage.uri: must be an object store that pods can read" in capsys.readouterr().err
