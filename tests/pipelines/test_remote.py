import json
import re
from types import SimpleNamespace

import pytest

import fipo
from fipo.errors import ConfigError
from fipo_kfp.pipelines import remote
from fipo_kfp.pipelines.__main__ import main
from fipo_kfp.pipelines.remote import Endpoint, KubeflowError, overview, schedule, submit

NIGHTLY = "0 0 3 * * *"


def test_submit_uploads_once_and_runs_that_version(kubeflow):
    for recipe in ("demo", "paper-32b"):
        submit(Endpoint(), "fipo_training", {"recipe": recipe, "run_nodes": "2"}, overrides=["train.steps=5"])
    assert [pipeline["display_name"] for pipeline in kubeflow.pipelines] == ["fipo-training"]
    assert len(kubeflow.uploads) == 2, "the pipeline, and its content as a version"
    first, second = kubeflow.runs
    assert first["runtime_config"]["parameters"] == {
        "recipe": "demo",
        "run_nodes": 2,
        "recipe_changes": ["train.steps=5"],
    }
    assert first["pipeline_version_reference"] == second["pipeline_version_reference"]
    assert first["pipeline_version_reference"]["pipeline_version_id"] == kubeflow.versions[-1]["pipeline_version_id"]
    assert len(kubeflow.experiments) == 1


def test_parameters_are_checked_before_anything_is_sent(kubeflow):
    with pytest.raises(ConfigError, match=r"no parameter 'gpu'.*run_gpus_per_node"):
        submit(Endpoint(), "fipo_training", {"gpu": "8"}, overrides=[])
    # The server itself takes 2.5 for an Integer, and its tasks do not.
    for nodes in ("two", "2.5", "true", "NaN", "1e400", "[2]"):
        with pytest.raises(ConfigError, match=f"run_nodes: expected Integer as JSON, got {re.escape(repr(nodes))}"):
            submit(Endpoint(), "fipo_training", {"run_nodes": nodes}, overrides=[])
    assert not kubeflow.uploads


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["fipo train.steps=5", "fipo train.steps=6"], r"'fipo train.steps=6': expected another name, 'fipo' is"),
        (["fipo run.description='half"], "No closing quotation; settings are separated by blanks"),
        ([1], "arm 1: expected the name of its run"),
        (["fipo", " "], "arm ' ': expected the name of its run"),
    ],
)
def test_arms_that_would_not_be_told_apart_are_refused(kubeflow, arms, words):
    with pytest.raises(ConfigError, match=words):
        submit(Endpoint(), "fipo_comparison", {"arms": json.dumps(arms)}, overrides=[])
    assert not kubeflow.uploads


def test_a_refused_upload_is_told_in_words(kubeflow):
    kubeflow.refused_upload = 413
    with pytest.raises(KubeflowError, match=r"answered 413 .*: scripted$"):
        submit(Endpoint(), "fipo_training", {}, overrides=[])


def test_the_token_comes_from_the_environment(kubeflow, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "secret")
    submit(Endpoint(), "fipo_training", {}, overrides=[])
    assert kubeflow.tokens == {"Bearer secret"}


def test_in_a_pod_the_projected_token_is_taken_anew_each_time(kubeflow, monkeypatch, tmp_path):
    """Kubernetes replaces it every hour."""
    token = tmp_path / "token"
    monkeypatch.setattr(remote, "TOKEN_FILE", str(token))
    for content in ("first", "second"):
        token.write_text(content)
        kubeflow.tokens.clear()
        submit(Endpoint(), "fipo_training", {}, overrides=[])
        assert kubeflow.tokens == {f"Bearer {content}"}


def test_two_who_submit_a_new_pipeline_at_once(kubeflow):
    """The one who comes second is refused the name, and takes what the first has made."""
    kubeflow.on_upload = lambda: kubeflow.answer("POST", "/apis/v2beta1/pipelines/upload?name=fipo-training", b"first")
    submit(Endpoint(), "fipo_training", {}, overrides=[])
    assert len(kubeflow.pipelines) == 1
    assert kubeflow.runs[0]["pipeline_version_reference"]["pipeline_id"] == kubeflow.pipelines[0]["pipeline_id"]


def nightly(**changes):
    arguments = {"overrides": [], "name": "nightly", "cron": NIGHTLY, **changes}
    return schedule(Endpoint(), "fipo_training", {"run_name": "nightly-{time}"}, **arguments)


def active(kubeflow):
    return [run for run in kubeflow.recurring if run["status"] == "ENABLED"]


def test_schedules_do_not_catch_up_or_overlap_by_default(kubeflow):
    assert nightly() == "created"
    (run,) = kubeflow.recurring
    assert run["trigger"]["cron_schedule"]["cron"] == NIGHTLY
    assert run["no_catchup"] is True
    assert int(run["max_concurrency"]) == 1
    assert run["runtime_config"]["parameters"] == {"run_name": "nightly-{time}"}
    assert run["pipeline_version_reference"]["pipeline_version_id"]


def test_the_same_schedule_again_changes_nothing(kubeflow):
    assert [nightly(), nightly()] == ["created", "unchanged"]
    assert len(kubeflow.recurring) == 1


@pytest.mark.parametrize(
    "change", [{"cron": "0 0 4 * * *"}, {"overrides": ["train.steps=9"]}, {"max_concurrency": 2}, {"catch_up": True}]
)
def test_a_changed_schedule_replaces_its_predecessor(kubeflow, change):
    nightly()
    assert nightly(**change) == "replaced"
    assert [run["status"] for run in kubeflow.recurring] == ["DISABLED", "ENABLED"]
    assert nightly(**change) == "unchanged"


def test_leftovers_of_an_interrupted_change_are_stopped(kubeflow):
    for hour in range(4):
        nightly(name=f"other-{hour}")
    nightly()
    kubeflow.recurring.append({**kubeflow.recurring[-1], "recurring_run_id": "twin"})
    assert nightly() == "replaced"
    assert len(active(kubeflow)) == 5, "four others, on several pages, and one of this name"


def test_off_stops_it(kubeflow, capsys):
    nightly()
    assert main(["schedule", "--name", "nightly", "--off"]) == 0
    assert not active(kubeflow)
    assert main(["schedule", "--name", "nightly", "--off"]) == 2
    assert "no schedule 'nightly'" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "hint"), [(401, "KFP_TOKEN"), (403, "KFP_TOKEN"), (500, "500")])
def test_a_refusal_is_explained(kubeflow, status, hint):
    kubeflow.faults = [status] * 10
    with pytest.raises(KubeflowError, match=hint):
        submit(Endpoint(), "fipo_training", {}, overrides=[])


def test_the_namespace_of_the_runs_is_not_where_kubeflow_is(monkeypatch):
    """In a pod, without a host."""
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    monkeypatch.setattr("kfp.Client.get_kfp_healthz", lambda client: SimpleNamespace(multi_user=False))
    client = Endpoint(namespace="team").connect()
    assert client._existing_config.host == "ml-pipeline.kubeflow.svc.cluster.local:8888"


def test_an_endpoint_that_is_not_there_is_explained(kubeflow):
    with pytest.raises(KubeflowError, match=r"cannot be reached.*--host"):
        submit(Endpoint(host="http://127.0.0.1:9"), "fipo_training", {}, overrides=[])


@pytest.mark.parametrize(
    "host",
    ["https://me:s3cr3t-word@kfp.example.org", "me:s3cr3t-word@kfp.example.org", "https://kfp/?token=s3cr3t-word"],
)
@pytest.mark.parametrize("where", ["argument", "variable"])
def test_credentials_in_the_endpoint_are_refused_with_the_variable_to_use(capsys, monkeypatch, host, where):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host if where == "variable" else "")
    assert main(["list", *(["--host", host] if where == "argument" else [])]) == 2
    said = capsys.readouterr().err
    assert "KFP_TOKEN" in said and "--host" in said and "s3cr3t" not in said


def test_commands(kubeflow, capsys):
    common = ["--recipe", "demo", "--set", "train.steps=2", "--parameter", "run_gpus_per_node=8"]
    assert main(["submit", *common]) == 0
    assert main(["schedule", *common, "--name", "nightly", "--cron", NIGHTLY]) == 0
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "schedule nightly: created" in printed
    assert "nightly" in printed and "enabled" in printed and kubeflow.runs[0]["run_id"] in printed
    assert kubeflow.runs[0]["runtime_config"] == kubeflow.recurring[0]["runtime_config"]
    schedules, runs = overview(Endpoint())
    assert (len(schedules), len(runs)) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule", "--name", "n"], "--cron: required"),
        (["schedule", "--name", "n", "--cron", "0 3 * * *"], "expected 6 fields"),
        (["submit", "--parameter", "run_nodes"], "expected name=value"),
    ],
)
def test_mistakes_on_the_command_line(kubeflow, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_versions_are_named_and_described(kubeflow):
    submit(Endpoint(), "fipo_training", {}, overrides=[])
    (version,) = kubeflow.versions  # without the one under the pipeline's own name that the first upload makes
    assert version["display_name"] == fipo.__version__
    assert version["description"].startswith(f"fipo {fipo.__version__}, package ")
    described = kubeflow.pipelines[0]["description"]
    assert "Documentation](https://" in described
    # The page that shows it takes the underscores of a bold name for emphasis.
    assert "`run_gpus_per_node`: " in described and "**" not in described


def test_a_run_is_titled_by_what_it_was_asked_for(kubeflow):
    long = 'data.train=[{"generator": {"digits": 3, "seed": 7}}]'
    for changes in (["train.learning_rate=3e-6", long], [f"run.seed={seed}" for seed in range(9)]):
        submit(Endpoint(), "fipo_training", {"run_name": "nightly"}, overrides=changes)
    first, second = (run["display_name"].partition(" (")[0] for run in kubeflow.runs)
    assert first == "nightly train.learning_rate=3e-6 data.train=…"
    assert second == "nightly run.seed=0 run.seed=1 run.seed=2 run.seed=3 run.see…" and len(second) == 60


def test_another_package_of_the_same_version_is_told_apart(kubeflow, monkeypatch):
    """Otherwise a run would be of the package that came first."""
    submit(Endpoint(), "fipo_training", {}, overrides=[])
    kubeflow.versions[-1]["description"] = "package 0123456789ab"
    for _ in range(2):
        submit(Endpoint(), "fipo_training", {}, overrides=[])
    names = [version["display_name"] for version in kubeflow.versions]
    assert len(names) == 2 and names[-1].startswith(f"{fipo.__version__}-")
    assert (
        kubeflow.runs[-1]["pipeline_version_reference"]["pipeline_version_id"]
        == kubeflow.versions[-1]["pipeline_version_id"]
    )


def test_a_server_that_keeps_no_descriptions(kubeflow):
    for _ in range(3):
        submit(Endpoint(), "fipo_training", {}, overrides=[])
        for version in kubeflow.versions:
            version["description"] = ""
    assert len(kubeflow.runs) == 3 and len(kubeflow.versions) == 2


def test_a_profile_has_pipelines_of_its_own(kubeflow, capsys):
    kubeflow.multi_user = True
    for namespace in ("team-a", "team-b", "team-a"):
        submit(Endpoint(namespace=namespace), "fipo_training", {}, overrides=[])
    assert [pipeline["namespace"] for pipeline in kubeflow.pipelines] == ["team-a", "team-b"]
    first, _, again = kubeflow.runs
    assert first["pipeline_version_reference"] == again["pipeline_version_reference"]
    assert "changes nothing" not in capsys.readouterr().err


def test_where_kubeflow_has_several_users_a_namespace_is_needed(kubeflow):
    kubeflow.multi_user = True
    with pytest.raises(ConfigError, match="--namespace: required"):
        submit(Endpoint(), "fipo_training", {}, overrides=[])
    assert not kubeflow.uploads


def test_a_namespace_that_changes_nothing_is_said(kubeflow, capsys):
    submit(Endpoint(namespace="team-a"), "fipo_training", {}, overrides=[])
    assert "--namespace team-a changes nothing" in capsys.readouterr().err


def test_runs_are_told_apart_by_name(kubeflow):
    for steps in (1, 2):
        submit(Endpoint(), "fipo_training", {"run_name": "first"}, overrides=[f"train.steps={steps}"])
    names = [run["display_name"] for run in kubeflow.runs]
    assert [name.split(" (")[0] for name in names] == ["first train.steps=1", "first train.steps=2"]
    assert all(re.search(r"\(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)$", name) for name in names)


@pytest.mark.parametrize("parameter", ["run_name=tick-[[ScheduledTime]]", "recipe_model=m-[[CurrentTime]]"])
def test_placeholders_that_kubeflow_does_not_fill_in_are_refused(kubeflow, capsys, parameter):
    options = ["schedule", "--name", "n", "--cron", NIGHTLY, "--parameter", parameter]
    assert main(options) == 2
    assert "write {time}" in capsys.readouterr().err
    assert not kubeflow.recurring


@pytest.mark.parametrize(
    "change", ["run.name=tick-[[ScheduledTime]]", "run.seed=[[Index]]", "run.name=x-[[CurrentTime.15-04]]"]
)
def test_nor_are_they_taken_in_a_setting(kubeflow, capsys, change):
    options = ["schedule", "--name", "n", "--cron", NIGHTLY, "--set", change]
    assert main(options) == 2
    assert "write {time}" in capsys.readouterr().err
    assert not kubeflow.recurring
    assert main(["submit", "--set", "data.benchmarks=[[aime-2024]]"]) == 0, "a list of lists is none"


def test_a_schedule_whose_runs_share_a_name_is_pointed_out(kubeflow, capsys):
    options = ["schedule", "--name", "n", "--cron", NIGHTLY, "--parameter"]
    main([*options, "run_name=nightly"])
    assert "is the same every time" in capsys.readouterr().err
    main([*options, "run_name=nightly-{time}"])
    assert "is the same every time" not in capsys.readouterr().err


def test_ids_are_listed_whole(kubeflow, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    submit(Endpoint(), "fipo_training", {"run_name": "a-rather-long-name-of-a-run"}, overrides=[])
    kubeflow.runs[0]["run_id"] = "0f2b6c1e-5a0d-4d3e-9a52-6a2f6f0f7c11"
    assert main(["list"]) == 0
    assert "0f2b6c1e-5a0d-4d3e-9a52-6a2f6f0f7c11" in capsys.readouterr().out
