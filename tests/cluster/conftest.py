"""`make test-cluster`: the product on a real cluster. Not part of `make test`; docs/deploy.md says how to run it.

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
from contextlib import ExitStack
from pathlib import Path

import pytest
import rich
from rich.table import Table

from fipo.errors import LaunchError
from fipo.findings import Finding, failed, findings_table
from fipo.launch.check import check_cluster
from tests.cluster.target import ClusterError, Target, forward, from_environment

collect_ignore_glob = [] if os.environ.get("FIPO_TEST_CLUSTER") else ["test_*.py"]

PLATFORM = ("Kubernetes", "trainer.kubeflow.org", "jobset.x-k8s.io", "argoproj.io", "webhooks", "Kubeflow Pipelines")
"""Checks that must hold before anything of ours is applied, by the beginning of their names."""


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The cluster, once its platform has passed the preflight."""
    with ExitStack() as stack:
        host = os.environ.get("CLUSTER_HOST", "")
        try:
            host = host or stack.enter_context(forward("kubeflow", "ml-pipeline-ui", 80))
            namespace = os.environ.get("CLUSTER_NAMESPACE", "kubeflow")
            findings = check_cluster(namespace=namespace, host=host)
        except (LaunchError, ClusterError, FileNotFoundError) as error:
            pytest.exit(f"no cluster to test: {error}", returncode=1)
        demand([finding for finding in findings if finding.check.startswith(PLATFORM)])
        several = any("several users" in finding.found for finding in findings)
        yield from_environment(host, several)


@pytest.fixture(scope="session")
def installed(target: Target) -> Iterator[Target]:
    """The cluster with the overlay applied, everything in it ready."""
    was_there = bool(target.kubectl("get", "configmap", "fipo", "--ignore-not-found", "--output", "name"))
    if target.overlay != Path():
        target.kubectl("apply", "--kustomize", str(target.overlay))
        target.kubectl("rollout", "status", "deployment/mlflow", "--timeout=600s", timeout=630)
    demand(check_cluster(namespace=target.namespace, host=target.host))
    yield target
    if not os.environ.get("CLUSTER_KEEP"):
        clean_up(target, with_overlay=not was_there)


def demand(findings: list[Finding]) -> None:
    """End everything where the preflight fails: nothing that follows would tell more."""
    if not findings or failed(findings):
        _PREFLIGHT.extend(findings)
        pytest.exit("the preflight failed, see its table (`fipo cluster check`)", returncode=1)


def clean_up(target: Target, *, with_overlay: bool) -> None:
    """Stop the schedule, end and delete the runs of the experiment and, if it was not there before, the overlay."""
    client, experiment = target.client(), target.experiment()
    for schedule in client.list_recurring_runs(experiment_id=experiment, page_size=100).recurring_runs or []:
        client.delete_recurring_run(schedule.recurring_run_id)
    for run in client.list_runs(experiment_id=experiment, page_size=100).runs or []:
        if not run.finished_at or run.finished_at.year < 2000:
            client.terminate_run(run.run_id)
        client.archive_run(run.run_id)
        client.delete_run(run.run_id)
    if with_overlay and target.overlay != Path():
        target.kubectl("delete", "--kustomize", str(target.overlay), "--ignore-not-found", "--wait=false")


@pytest.fixture
def note(request: pytest.FixtureRequest):
    """`note(text)`: what the table shows beside a test's result."""
    return lambda text: request.node.user_properties.append(("note", str(text)))


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
