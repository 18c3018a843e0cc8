from pathlib import Path

import pytest
from kfp import dsl

from fipo_kfp.components.doctor.component import doctor

RECIPE = str(Path(__file__).parents[3] / "tests" / "pipelines" / "tiny.yaml")
STEPS = "prepare sft train evaluate gate register report"


def call(page, todo, *settings):
    given = {"recipe": RECIPE, "overrides": list(settings), "todo": todo}
    doctor.python_func(**given, findings=page, task_config=dsl.TaskConfig())
    return Path(page.path).read_text()


@pytest.mark.parametrize(("todo", "more"), [(STEPS, ()), ("gate register report", ("trainjob.gpus_per_node=8",))])
def test_without_gpus_or_work_for_them_nothing_is_looked_at(todo, more, page):
    assert "nothing was looked at" in call(page, todo, *more)


def test_gpus_that_are_not_there_end_the_run(page, tmp_path, capfd):
    settings = (f"run.directory={tmp_path}", "trainjob.gpus_per_node=1", "distributed.processes=1", "run.name=d")
    with pytest.raises(SystemExit) as ended:
        call(page, STEPS, *settings)
    said = capfd.readouterr()
    assert ended.value.code == 2, "another attempt would find the same"
    assert "sees 0 GPU(s), for 1 rank(s)" in said.out and "doctor: fipo.doctor.job failed" in said.err
