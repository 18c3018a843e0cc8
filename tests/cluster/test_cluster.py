"""What the product promises, on a real cluster; from the first run to what is left at the end."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import fipo
from tests.cluster.target import ROOT, Target, artifact_uris, eventually, mlflow_parents, open_artifact

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

LONG = ("sft.steps=20000", "sft.checkpoint_every=50", "sft.evaluate_every=20000")
"""Settings of a run whose warm-up lasts minutes."""


@pytest.fixture(scope="module")
def first(installed: Target) -> tuple[str, str]:
    """Name and id of a run that has ended."""
    name = f"first-{os.getpid()}"
    run = installed.submit(name)
    assert installed.wait_for_run(run) == "SUCCEEDED", failures(installed, run)
    return name, run


def failures(target: Target, run: str) -> str:
    """The last lines of the pods that failed."""
    failed = [pod["metadata"]["name"] for pod in target.task_pods(run) if pod["status"].get("phase") == "Failed"]
    logs = [target.kubectl("logs", pod, "--container", "main", "--tail", "20", check=False) for pod in failed]
    return "\n".join(f"{pod}:\n{log}" for pod, log in zip(failed, logs, strict=True))


def test_all_tasks_and_jobs_end_well(installed, first, note):
    _, run = first
    details = installed.client().get_run(run).run_details.task_details
    states = {task.display_name: task.state for task in details}
    assert not {name: state for name, state in states.items() if state in ("FAILED", "CANCELED")}
    jobs = installed.train_jobs(run)
    assert len(jobs) == 3
    for job in jobs:
        conditions = {entry["type"]: entry["status"] for entry in job["status"]["conditions"]}
        assert conditions.get("Complete") == "True", (job["metadata"]["name"], conditions)
    note(f"{len(states)} tasks, {len(jobs)} TrainJobs")


def test_the_exit_handler_ends_well(installed, first):
    """Its failure leaves the run green: only its pod shows it. It starts when all others have ended."""
    pods = installed.task_pods(first[1])
    assert {pod["status"]["phase"] for pod in pods} == {"Succeeded"}
    last = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])
    ended = [main_state(pod)["terminated"]["finishedAt"] for pod in pods if pod is not last]
    assert last["metadata"]["creationTimestamp"] >= max(ended)


def test_mlflow_has_the_run_as_finished(installed, first, note):
    with installed.forwarded("mlflow", 5000) as url:
        parents = mlflow_parents(url, first[0])
    assert set(parents.values()) == {"FINISHED"}, parents
    note(parents)


def test_artifacts_open(installed, first, note):
    uris = artifact_uris(installed.task_pods(first[1]))
    assert uris, "the pods' arguments name no artifact"
    token = os.environ.get("KFP_TOKEN", "")
    sizes = {uri: len(open_artifact(installed.host, installed.namespace, uri, token)) for uri in uris}
    assert all(sizes.values()), sizes
    note(f"{len(sizes)} artifacts, {sum(sizes.values())} bytes")


def test_a_second_run_reuses_everything(installed, first, note):
    run = installed.submit(first[0])
    assert installed.wait_for_run(run) == "SUCCEEDED", failures(installed, run)
    assert installed.train_jobs(run) == [], "nothing was left to train"
    with installed.forwarded("mlflow", 5000) as url:
        assert set(mlflow_parents(url, first[0]).values()) == {"FINISHED"}, "Kubeflow calls such a run RUNNING"
    ended = installed.client().get_run(run)
    note(f"{(ended.finished_at - ended.created_at).total_seconds():.0f} s")


def test_a_bad_recipe_is_tried_once(installed, name, note):
    run = installed.submit(name, recipe="nonesuch")
    assert installed.wait_for_run(run) == "FAILED"
    phases = [pod["status"]["phase"] for pod in installed.task_pods(run)]
    assert phases.count("Failed") == 1, f"phases of the tasks' pods: {phases}"
    assert installed.train_jobs(run) == []
    note(", ".join(phases))


def main_state(pod):
    """State of the container of the task itself."""
    (main,) = [entry for entry in pod["status"].get("containerStatuses", []) if entry["name"] == "main"]
    return main["state"]


@pytest.mark.parametrize("way", ["deleted", "evicted"])
def test_a_lost_pod_and_a_lost_launcher_cost_no_run(installed, session, note, way):
    """A launcher that is deleted is asked to stop, and stops its job too; one whose node is drained leaves it."""
    run = installed.submit(f"lost-{way}-{session}", *LONG[1:], "sft.steps=2000")
    pod = installed.running_job_pod(run)
    installed.kubectl("delete", "pod", pod, "--wait=false")
    eventually(lambda: installed.running_job_pod(run) != pod, 600, "the job's pod did not come back")
    (job,) = installed.train_jobs(run)
    launchers = [entry for entry in installed.task_pods(run) if entry["status"].get("phase") == "Running"]
    launcher = launchers[0]["metadata"]["name"]
    if way == "deleted":
        installed.kubectl("delete", "pod", launcher, "--wait=false")
    else:
        installed.evict(launcher)
    assert installed.wait_for_run(run) == "SUCCEEDED", failures(installed, run)
    if way == "evicted":
        uids = {other["metadata"]["name"]: other["metadata"]["uid"] for other in installed.train_jobs(run)}
        assert uids[job["metadata"]["name"]] == job["metadata"]["uid"], "the job has gone on"
    note(f"{way} {pod} and {launcher}")


def test_terminate_leaves_nothing_within_a_minute(installed, name, note):
    run = installed.submit(name, *LONG)
    installed.running_job_pod(run)
    installed.client().terminate_run(run)

    def nothing_left():
        pods = [pod for pod in installed.task_pods(run) if pod["status"].get("phase") in ("Pending", "Running")]
        return not pods and not installed.train_jobs(run)

    seconds = eventually(nothing_left, 60, f"run {run} still has TrainJobs or pods")
    installed.wait_for_run(run)
    with installed.forwarded("mlflow", 5000) as url:
        eventually(lambda: set(mlflow_parents(url, name).values()) == {"KILLED"}, 60, "the run is open in MLflow")
    note(f"{seconds:.0f} s")


def test_two_ticks_of_a_schedule_are_two_runs(installed, name, note):
    arguments = ["--name", name, "--cron", "0 * * * * *", "--max-concurrency", "2"]
    installed.pipelines("schedule", *arguments, *installed.run_arguments(f"{name}-{{time}}"))
    client, experiment = installed.client(), installed.experiment()
    schedules = client.list_recurring_runs(experiment_id=experiment, page_size=100).recurring_runs or []
    (schedule,) = [entry.recurring_run_id for entry in schedules if entry.display_name == name]

    def ticks():
        runs = client.list_runs(experiment_id=experiment, page_size=100).runs or []
        return [run.run_id for run in runs if run.recurring_run_id == schedule]

    try:
        eventually(lambda: len(ticks()) >= 2, 300, "the schedule started no second run")
    finally:
        installed.pipelines("schedule", "--name", name, "--off")
    for run in ticks():
        assert installed.wait_for_run(run) == "SUCCEEDED", failures(installed, run)
    with installed.forwarded("mlflow", 5000) as url:
        parents = mlflow_parents(url, name)
    assert len(parents) >= 2 and set(parents.values()) == {"FINISHED"}, parents
    assert not any("{" in parent or "[" in parent for parent in parents)
    note(", ".join(sorted(parents)))


def test_the_overlay_is_upgraded_while_runs_go_on(installed, tmp_path, first, note):
    if installed.overlay == Path():
        pytest.skip("CLUSTER_OVERLAY=none: nothing is applied")
    before = {item["metadata"]["name"] for item in installed.objects("trainingruntimes.trainer.kubeflow.org")}
    version = fipo.__version__.replace(".", "-")
    newer = replace(installed, overlay=next_version(installed.overlay, tmp_path, version, f"{version}-1"))
    try:
        newer.kubectl("apply", "--kustomize", str(newer.overlay))
        after = {item["metadata"]["name"] for item in newer.objects("trainingruntimes.trainer.kubeflow.org")}
        assert before < after, "the runtimes of running jobs stay"
        run = newer.submit(f"upgraded-{first[0]}")
        assert newer.wait_for_run(run) == "SUCCEEDED", failures(newer, run)
        used = {job["spec"]["runtimeRef"]["name"] for job in newer.train_jobs(run)}
        assert used <= after - before, "new jobs take the new runtime"
        note(f"{', '.join(sorted(used))} beside {', '.join(sorted(before))}")
    finally:
        installed.kubectl("apply", "--kustomize", str(installed.overlay))
        for runtime in after - before:
            installed.kubectl("delete", "trainingruntime", runtime, "--ignore-not-found")


def next_version(overlay: Path, folder: Path, version: str, following: str) -> Path:
    """A copy of the manifests whose names carry another version."""
    shutil.copytree(ROOT / "k8s", folder / "k8s")
    for path in (folder / "k8s").rglob("*.yaml"):
        path.write_text(path.read_text().replace(version, following))
    return folder / overlay.relative_to(ROOT)


def test_namespaces_are_taken_seriously(installed, name, note):
    """With several users a second run in the profile works as the first (a second experiment met 409); with one, a
    namespace that would be ignored is spoken of."""
    if installed.multi_user:
        run = installed.submit(name, "sft.steps=1")
        again = installed.submit(name, "sft.steps=1")
        assert {installed.wait_for_run(one) for one in (run, again)} == {"SUCCEEDED"}
        note(f"several users: two runs in {installed.namespace}")
        return
    said = installed.pipelines("submit", "--namespace", "elsewhere", "--recipe", "nonesuch", check=False)
    assert "namespace" in (said.stdout + said.stderr).lower(), "a namespace is not ignored without a word"
    note("one user: said")
