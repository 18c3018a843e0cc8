import json
import signal
import subprocess
import sys

import psutil
import pytest

from fipo.config import load_config
from fipo.run.run import Run
from fipo.tracking.client import NOTE, RUN_KEY, connect, find_runs
from fipo.tracking.metric_names import METRICS
from tests.present import present
from tests.waiting import wait_until_gone

STEPS = {"prepare", "sft", "train", "evaluate", "gate", "register", "report"}


def test_the_pipeline_runs_every_step_and_leaves_a_summary(tiny_pipeline):
    others = {"score"}  # of another pipeline, whose test may have come before
    assert tiny_pipeline.tasks - others == STEPS | {"configure", "doctor", "deploy", "finish"}
    summary = json.loads((tiny_pipeline.config.run_directory / "summary.json").read_text())
    assert summary["model"]["name"] == "fipo-tiny"
    assert set(summary["seconds"]) == STEPS - {"report"} | {"total"}


def test_every_documented_metric_is_logged(tiny_pipeline):
    journals = tiny_pipeline.config.run_directory.glob("*/*/journal.jsonl")
    records = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
    logged = {name for record in records if record["kind"] == "metrics" for name in record["values"]}
    missing = [metric.name for metric in METRICS if not metric.only and not any(map(metric.matches, logged))]
    assert missing == []


def test_the_first_view_in_mlflow_has_it_all(tiny_pipeline):
    """The pipeline's run: settings, scores, model, report and what came of it in words; each experiment says what it
    holds, and what steps are called says nothing twice."""
    config = tiny_pipeline.config
    client = connect(config.tracking_uri)
    (parent,) = find_runs(client, RUN_KEY, Run(config).key)
    assert parent.data.params["train.learning_rate"] == "1e-06"
    assert {"eval/sums/avg_at_k", "eval/sums/warmup/avg_at_k"} <= set(parent.data.metrics)
    assert parent.data.tags["model"] == "fipo-tiny version 1"
    assert "running-sums" not in parent.data.tags[NOTE] and "accuracy on sums" in parent.data.tags[NOTE]
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    for experiment in client.search_experiments():
        assert experiment.name == "Default" or len(experiment.tags[NOTE]) > 20
    (train,) = find_runs(client, RUN_KEY, Run(config).step("train").run_key)
    assert train.info.run_name.startswith("tiny-fipo-s0-") and len(train.info.run_name) < 20
    assert train.data.tags[NOTE].startswith("Trained. In the last step")


def test_the_output_is_the_steps_own(tiny_pipeline):
    lines = tiny_pipeline.output.splitlines()
    assert any(line.startswith("[train] step 1/1") for line in lines)
    [kept] = [line for line in lines if line.startswith("[train] kept on disk")]
    assert "step 1 in " in kept and kept.endswith("(the newest 2)")
    assert not list(tiny_pipeline.config.run_directory.glob("*/*/model")), "what is published is in the store alone"
    for noise in ("KFP Executor", "Executing task", "Warning", "executor_input", "----"):
        assert noise not in tiny_pipeline.output
    assert "report   " in tiny_pipeline.output and "fipo ui" in tiny_pipeline.output


def test_a_model_that_does_not_pass_the_gate_stays_a_candidate(tiny_copy, start_pipeline):
    """What has not changed is not done again."""
    again = start_pipeline(tiny_copy, "gate.minimum=1.0")
    assert again.tasks == STEPS | {"configure", "doctor", "deploy", "finish"}
    assert [again.output.count(f"[{step}] reused") for step in ("prepare", "sft", "train", "evaluate")] == [1] * 4
    assert again.result("gate")["parameterValues"]["Output"] == "keep"
    assert "fipo-tiny version 1: candidate; not promoted" in again.output, "the same model is the same version"


def test_the_last_step_of_all_closes_the_run(tiny_copy, tiny_pipeline):
    """Where each step is a command of its own there is no exit handler."""
    config = load_config(tiny_pipeline.recipe, [tiny_copy])
    client = connect(config.tracking_uri)
    (parent,) = find_runs(client, RUN_KEY, Run(config).key)
    client.update_run(parent.info.run_id, "RUNNING")
    Run(config).step("gate").run(fresh=True)
    assert client.get_run(parent.info.run_id).info.status == "RUNNING"
    Run(config).step("report").run(fresh=True)
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_failing_step_is_named_and_the_run_is_closed(start_pipeline, tmp_path):
    failed = start_pipeline(f"run.directory={tmp_path}", "data.train=[{uri: /nowhere/problems.jsonl}]", code=65)
    assert "/nowhere/problems.jsonl" in failed.output
    assert "step 'configure' failed" in failed.output.splitlines()[-1], "before anything is started"
    assert "Traceback" not in failed.output
    assert failed.tasks == {"finish"}


def test_an_arm_that_is_refused_ends_the_comparison(tiny_copy, start_pipeline):
    arms = json.dumps(["tiny", "broken train.stepz=1"])
    failed = start_pipeline(tiny_copy, options=["--pipeline", "fipo_comparison", "--parameter", f"arms={arms}"], code=2)
    assert "train.stepz: no such setting" in failed.output
    assert "step 'configure' failed" in failed.output.splitlines()[-1]
    assert {"evaluate", "finish"} <= failed.tasks and "compare" not in failed.tasks


def test_a_model_that_is_not_there_is_not_evaluated(tiny_copy, start_pipeline):
    options = ["--pipeline", "fipo_evaluation", "--parameter", "model=fipo-tiny@best"]
    failed = start_pipeline(tiny_copy, options=options, code=2)
    assert failed.output.count("candidate, champion") == 1, "and is not asked for again"
    assert "step 'configure' failed" in failed.output.splitlines()[-1]
    assert failed.tasks == {"finish"}


def test_wrong_settings_start_nothing(start_pipeline, tmp_path):
    refused = start_pipeline(f"run.directory={tmp_path}", "train.stepz=1", code=2)
    assert "train.stepz: no such setting" in refused.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "/proc/nowhere"])
def test_a_place_where_no_folder_can_be_is_refused(start_pipeline, tmp_path, place):
    (tmp_path / "file").touch()
    refused = start_pipeline(f"run.directory={tmp_path / place}", code=2)
    assert refused.output.splitlines()[-1].startswith("run.directory: ") and "name another folder" in refused.output


def test_ctrl_c_ends_every_process(tiny_pipeline, tiny_copy):
    settings = [tiny_copy, "sft.steps=1000000"]
    command = [sys.executable, "-m", "pipelines", "run", "--recipe", tiny_pipeline.recipe]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in present(process.stdout):
        lines.append(line)
        if line.startswith("[sft] step"):
            break
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    lines += present(process.stdout)
    assert process.wait() == 75, "".join(lines)
    assert "the same command continues" in lines[-1]
    wait_until_gone(started)
    config = load_config(tiny_pipeline.recipe, settings)
    assert not list(config.run_directory.glob("kfp/*/train"))
    [whole] = find_runs(connect(config.tracking_uri), RUN_KEY, Run(config).key)
    assert whole.info.status == "KILLED", "stopped, and not failed"
