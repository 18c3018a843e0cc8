"""Submit and schedule the pipelines at a Kubeflow endpoint."""

import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials

import fipo
from fipo.errors import ConfigError, FipoError
from fipo.uris import check_server
from fipo_kfp.pipelines.cron import check_cron
from fipo_kfp.pipelines.package import PIPELINES, arguments, compile_pipeline, description

TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"
"""Where Kubeflow projects the token of a pod that may call the pipelines API."""
LONG_TITLE, LONG_VALUE = 60, 24
"""Characters of a run's title without its time, and of a setting's value in it: what Kubeflow's lists have room for."""


class KubeflowError(FipoError):
    """Kubeflow Pipelines refused a request or cannot be reached."""


def _check_host(host: str) -> None:
    """What is written in an address is kept in shells' histories, and seen among the processes of a machine."""
    try:
        check_server(host if "://" in host or not host else f"https://{host}", "the token is that of KFP_TOKEN")
    except ValueError as error:
        raise ConfigError(f"Kubeflow Pipelines (--host, KF_PIPELINES_ENDPOINT): {error}") from None


@dataclass(frozen=True)
class Endpoint:
    """Where Kubeflow Pipelines is.

    The token comes from the environment variable `KFP_TOKEN` or from the pod's projected token, never from an argument.
    """

    host: str = ""
    """URL; empty is `KF_PIPELINES_ENDPOINT`, or the service in the own cluster."""
    namespace: str = ""
    """The profile, where Kubeflow has several users; empty where it has one."""
    experiment: str = "fipo"
    """Kubeflow's experiment, in which runs can be compared."""

    def connect(self) -> kfp.Client:
        """A client.

        Raises:
            ConfigError: the URL holds credentials, or is none.
        """
        host = self.host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
        _check_host(host)
        in_pod = ServiceAccountTokenVolumeCredentials(TOKEN_FILE) if Path(TOKEN_FILE).exists() else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp says with each client which servers it does not support
            return kfp.Client(
                host=host or None,
                namespace="kubeflow",  # of Kubeflow itself, where no host is given; the profile is told to each request
                existing_token=os.environ.get("KFP_TOKEN"),
                credentials=in_pod,
            )


def submit(endpoint: Endpoint, pipeline: str, parameters: Mapping[str, str], *, overrides: list[str]) -> str:
    """Start a run now; returns its id."""
    given = arguments(pipeline, parameters, overrides)
    with _explained():
        client = _connected(endpoint)
        pipeline_id, version_id = _upload(client, pipeline, endpoint.namespace)
        run = client.run_pipeline(
            _experiment(client, endpoint),
            _title(given),
            params=given,
            pipeline_id=pipeline_id,
            version_id=version_id,
        )
    return str(run.run_id)


def schedule(
    endpoint: Endpoint,
    pipeline: str,
    parameters: Mapping[str, str],
    *,
    overrides: list[str],
    name: str,
    cron: str,
    max_concurrency: int = 1,
    catch_up: bool = False,
) -> str:
    """Have the pipeline run by the clock; returns what was done: `created`, `replaced` or `unchanged`.

    Kubeflow cannot change a schedule. One of the same name that differs is stopped and stays listed, for its history.
    """
    wanted = {
        "cron": check_cron(cron),
        "no_catchup": not catch_up,
        "max_concurrency": max_concurrency,
        "parameters": arguments(pipeline, parameters, overrides),
    }
    with _explained():
        client = _connected(endpoint)
        pipeline_id, version_id = _upload(client, pipeline, endpoint.namespace)
        wanted["version"] = version_id
        experiment = _experiment(client, endpoint)
        present = [
            run for run in _schedules(client, experiment) if run.display_name == name and run.status == "ENABLED"
        ]
        if len(present) == 1 and _content(present[0]) == wanted:
            return "unchanged"
        client.create_recurring_run(
            experiment,
            name,
            cron_expression=wanted["cron"],
            no_catchup=wanted["no_catchup"],
            max_concurrency=max_concurrency,
            params=wanted["parameters"],
            pipeline_id=pipeline_id,
            version_id=version_id,
        )
        for run in present:
            client.disable_recurring_run(run.recurring_run_id)
    return "replaced" if present else "created"


def unschedule(endpoint: Endpoint, name: str) -> None:
    """Stop the schedule of this name.

    Raises:
        ConfigError: there is none.
    """
    with _explained():
        client = _connected(endpoint)
        runs = _schedules(client, _experiment(client, endpoint))
        active = [run for run in runs if run.display_name == name and run.status == "ENABLED"]
        if not active:
            names = ", ".join(sorted({run.display_name for run in runs if run.status == "ENABLED"})) or "none"
            raise ConfigError(f"no schedule {name!r} in experiment {endpoint.experiment!r}; there are: {names}")
        for run in active:
            client.disable_recurring_run(run.recurring_run_id)


def overview(endpoint: Endpoint) -> tuple[list[Any], list[Any]]:
    """The schedules of the experiment, and its last runs, newest first."""
    with _explained():
        client = _connected(endpoint)
        experiment = _experiment(client, endpoint)
        answer = client.list_runs(experiment_id=experiment, page_size=20, sort_by="created_at desc")
        return _schedules(client, experiment), answer.runs or []


def _connected(endpoint: Endpoint) -> kfp.Client:
    """A client of a server that takes the namespace as it is given.

    Raises:
        ConfigError: the server has several users, and no namespace is given.
    """
    client = endpoint.connect()
    several = bool(client.get_kfp_healthz().multi_user)
    if several and not endpoint.namespace:
        raise ConfigError("--namespace: required, for this Kubeflow has several users; name the profile to run in")
    if endpoint.namespace and not several:
        print(
            f"this Kubeflow has one user: --namespace {endpoint.namespace} changes nothing, all runs are in its own",
            file=sys.stderr,
        )
    return client


def _title(given: Mapping[str, Any]) -> str:
    """Of a run: what it was asked for, and when; by this alone Kubeflow's page that compares runs tells them apart."""
    changes = (change.partition("=") for change in given.get("recipe_changes", ()))
    told = (f"{key}={value if len(value) <= LONG_VALUE else '…'}" for key, _, value in changes)
    asked = " ".join([given.get("run_name") or given.get("recipe", ""), *told])
    asked = asked if len(asked) <= LONG_TITLE else f"{asked[: LONG_TITLE - 1].rstrip()}…"
    return f"{asked} ({datetime.now(UTC):%Y-%m-%d %H:%M:%S})".strip()


def _upload(client: kfp.Client, pipeline: str, namespace: str) -> tuple[str, str]:
    """Ids of the pipeline and of the version with this content, uploaded where the server lacks them."""
    try:
        return _find_or_upload(client, pipeline, namespace)
    except kfp_server_api.ApiException as error:
        if error.status != 409:
            raise
        return _find_or_upload(client, pipeline, namespace)  # someone else was quicker: now it is there


def _find_or_upload(client: kfp.Client, pipeline: str, namespace: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        package = str(compile_pipeline(pipeline, Path(folder)))
        digest = hashlib.sha256(Path(package).read_bytes()).hexdigest()[:12]
        name, what = PIPELINES[pipeline].name, description(pipeline)
        pipeline_id = _pipeline_id(client, name, namespace)
        if pipeline_id is None:
            uploaded = client.upload_pipeline(package, name, description=what, namespace=namespace or None)
            pipeline_id = uploaded.pipeline_id
            # With it came a version under the pipeline's own name: the one that says its number follows below.
            for version in client.list_pipeline_versions(pipeline_id).pipeline_versions or []:
                if version.display_name == name:
                    client.delete_pipeline_version(pipeline_id, version.pipeline_version_id)
        pages = _pages(client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline_id)
        known = {version.display_name: version for version in pages}
        for version in known.values():
            if digest in (version.description or version.display_name):
                return pipeline_id, version.pipeline_version_id
        # Another package under the name of this version: an image or a change of one's own.
        title = f"{fipo.__version__}-{digest}" if fipo.__version__ in known else fipo.__version__
        content = f"fipo {fipo.__version__}, package {digest}"
        uploaded = client.upload_pipeline_version(package, title, pipeline_id=pipeline_id, description=content)
        return pipeline_id, uploaded.pipeline_version_id


def _pipeline_id(client: kfp.Client, name: str, namespace: str) -> str | None:
    """Of the pipeline of this name: Kubeflow lists a profile's own pipelines to who names the profile."""
    equal = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    found = client.list_pipelines(filter=json.dumps({"predicates": [equal]}), namespace=namespace or None)
    return found.pipelines[0].pipeline_id if found.pipelines else None


def _experiment(client: kfp.Client, endpoint: Endpoint) -> str:
    return str(client.create_experiment(endpoint.experiment, namespace=endpoint.namespace or None).experiment_id)


def _schedules(client: kfp.Client, experiment: str) -> list[Any]:
    return list(_pages(client.list_recurring_runs, "recurring_runs", experiment_id=experiment))


def _content(run: Any) -> dict[str, Any]:
    """What makes two schedules the same."""
    return {
        "cron": run.trigger.cron_schedule.cron if run.trigger.cron_schedule else None,
        "no_catchup": bool(run.no_catchup),
        "max_concurrency": int(run.max_concurrency),
        "parameters": run.runtime_config.parameters or {},
        "version": run.pipeline_version_reference.pipeline_version_id,
    }


def _pages(call: Callable[..., Any], items: str, **arguments: Any) -> Iterator[Any]:
    token = ""
    while True:
        answer = call(page_token=token, page_size=100, **arguments)
        yield from getattr(answer, items) or []
        token = answer.next_page_token
        if not token:
            return


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except kfp_server_api.ApiException as error:
        hint = "; set KFP_TOKEN to a token that may use the API" if error.status in (401, 403) else ""
        raise KubeflowError(
            f"Kubeflow Pipelines answered {error.status} {error.reason}: {_message(error)}{hint}"
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:  # kfp's own TimeoutError is an OSError
        raise KubeflowError(f"Kubeflow Pipelines cannot be reached: {error}; see --host and KFP_TOKEN") from None


def _message(error: kfp_server_api.ApiException) -> str:
    """Uploads answer with `error_message`, all else with `message`, and what stands before the server with a text."""
    try:
        body = json.loads(error.body)
        return str(body.get("message") or body["error_message"])
    except (AttributeError, TypeError, ValueError, KeyError):
        return str(error.body or "").strip()
