"""`make test-cluster`: the product on a real cluster. Not part of `make test`; docs/deploy.md says how to run it.

Where Trainer is installed and Kubeflow Pipelines are not, test_jobs.py alone runs.

CLUSTER_HOST         URL of Kubeflow Pipelines' UI (default: a port-forward to ml-pipeline-ui in `kubeflow`)
CLUSTER_NAMESPACE    of the runs (default: kubeflow)
CLUSTER_OVERLAY      what is applied (default: k8s/overlays/local; `none` applies nothing)
CLUSTER_SETTINGS     settings for every run, separated by blanks
CLUSTER_RUN_SECONDS  how long one run may take (default: 1800)
CLUSTER_KEEP=1       leaves everything as it is at the end
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import rich
from rich.table import Table

from fipo.errors import LaunchError
from fipo.findings import Finding, failed, findings_table
from fipo.launch.check import check_cluster
from tests.cluster.target import ClusterError, Target, forward, from_environment

collect_ignore_glob = [] if os.environ.get("FIPO_TEST_CLUSTER") else ["test_*.py"]

PLATFORM = ("Kubernetes", "trainer.kubeflow.org", "jobset.x-k8s.io", "webhooks")
"""Checks that must hold before anything of ours is applied, by the beginning of their names."""
PIPELINES = ("argoproj.io", "Kubeflow Pipelines")
"""Checks of what test_cluster.py needs besides."""
UI = ("kubeflow", "ml-pipeline-ui", 80)


@pytest.fixture(scope="session")
def bare() -> Target:
    """The cluster, once its platform has passed the preflight."""
    namespace = os.environ.get("CLUSTER_NAMESPACE", "kubeflow")
    try:
        findings = check_cluster(namespace=namespace, host=os.environ.get("CLUSTER_HOST", ""))
    except LaunchError as error:
        pytest.exit(f"no cluster to test: {error}", returncode=1)
    demand([finding for finding in findings if finding.check.startswith(PLATFORM)])
    return from_environment("", multi_user=False)


@pytest.fixture(scope="session")
def applied(bare: Target) -> Iterator[Target]:
    """The cluster with the overlay applied, everything in it ready."""
    was_there = bool(bare.kubectl("get", "configmap", "fipo", "--ignore-not-found", "--output", "name"))
    if bare.overlay != Path():
        bare.kubectl("apply", "--kustomize", str(bare.overlay))
        for deployment in ("mlflow", "fipo-reaper"):
            bare.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=600s", timeout=630)
    demand([finding for finding in check_cluster(namespace=bare.namespace) if not finding.check.startswith(PIPELINES)])
    yield bare
    if not was_there and bare.overlay != Path() and not os.environ.get("CLUSTER_KEEP"):
        bare.kubectl("delete", "--kustomize", str(bare.overlay), "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def installed(applied: Target) -> Iterator[Target]:
    """The same with Kubeflow Pipelines."""
    with ExitStack() as stack:
        host = os.environ.get("CLUSTER_HOST", "") or stack.enter_context(ui(applied))
        findings = check_cluster(namespace=applied.namespace, host=host)
        demand(findings)
        target = from_environment(host, any("several users" in finding.found for finding in findings))
        yield target
        if not os.environ.get("CLUSTER_KEEP"):
            clean_up(target)


def ui(target: Target) -> AbstractContextManager[str]:
    """A way to the UI of Kubeflow Pipelines; tests are skipped where there are none."""
    namespace, service, port = UI
    try:
        target.kubectl("--namespace", namespace, "get", "service", service)
    except ClusterError:
        pytest.skip(f"no Kubeflow Pipelines: {namespace} has no service {service}, and CLUSTER_HOST names no URL")
    return forward(namespace, service, port)


def demand(findings: list[Finding]) -> None:
    """End everything where the preflight fails: nothing that follows would tell more."""
    if not findings or failed(findings):
        _PREFLIGHT.extend(findings)
        pytest.exit("the preflight failed, see its table (`fipo cluster check`)", returncode=1)


def clean_up(target: Target) -> None:
    """Stop the schedule, end and delete the runs of the experiment."""
    client, experiment = target.client(), target.experiment()
    for schedule in client.list_recurring_runs(experiment_id=experiment, page_size=100).recurring_runs or []:
        client.delete_recurring_run(schedule.recurring_run_id)
    for run in client.list_runs(experiment_id=experiment, page_size=100).runs or []:
        if not run.finished_at or run.finished_at.year < 2000:
            client.terminate_run(run.run_id)
        client.archive_run(run.run_id)
        client.delete_run(run.run_id)


@pytest.fixture
def note(request: pytest.FixtureRequest):
    """`note(text)`: what the table shows beside a test's result."""
    return lambda text: request.node.user_properties.append(("note", str(text)))


@pytest.fixture(scope="session")
def session() -> str:
    """A word that no other session's names have."""
    return _SESSION


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of the test's runs: new in each session."""
    return f"{request.node.originalname.removeprefix('test_').replace('_', '-')[:30]}-{_SESSION}"


_PREFLIGHT: list[Finding] = []
_SESSION = f"{int(time.time()) % 10**6:06}"


def pytest_terminal_summary(terminalreporter) -> None:
    """The result as a table; that of the preflight where it failed."""
    if _PREFLIGHT:
        rich.print(findings_table(_PREFLIGHT))
    table = Table("check", "result", "seconds", "seen", box=None)
    for result in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(result, []):
            if getattr(report, "when", "") == "call" or result != "passed":
                notes = [text for key, text in getattr(report, "user_properties", []) if key == "note"]
                words = report.nodeid.partition("::")[2].removeprefix("test_").replace("_", " ")
                table.add_row(words, result, f"{getattr(report, 'duration', 0.0):.0f}", "; ".join(notes))
    if table.row_count:
        rich.print(table)
