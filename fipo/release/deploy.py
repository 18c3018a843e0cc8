"""Serve the registry's champion in the cluster, and go back when a version does not answer.

What is served stands in three places that say the same: the object's annotations, the alias `served` of the registry,
and the tags `served_at`, `served_as` of each version that ever was.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fipo.config import Config
from fipo.errors import ConfigError, FipoError, ServingError
from fipo.release.ask import Question, ask
from fipo.release.manifests import CONTAINER, Kind, Manifest, Served
from fipo.release.registry import RegisteredModel, champion, fetch_answers, patiently, served, set_served
from fipo.waits import Wait

if TYPE_CHECKING:
    from fipo.launch.serving import ServingCluster

KINDS: tuple[Kind, ...] = ("InferenceService", "Deployment")
POLL_SECONDS = 3.0
QUESTION_TOKENS = 256
"""Of the answer that is waited for: long enough to see that it comes."""
TAIL_LINES = 20
HOST_LABEL = 63
"""Characters of one part of a host name (RFC 1035)."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that the cluster serves."""

    served: Served
    kind: Kind
    namespace: str
    url: str
    """Inside the cluster; requests go to `<url>/v1/chat/completions`."""
    changed: bool
    """Whether something else was served before, or nothing."""
    problem: str
    """That it was asked; empty where its address could not be reached from here, and readiness had to do."""
    answer: str


def deploy(config: Config) -> Deployed | None:
    """Serve the champion of `registry.model_name` as `deploy` says, and wait until it answers; None without champion.

    The same version, served in the same way, is left alone.

    Raises:
        ConfigError: there is no image to serve it with, or pods could not read its weights.
        LaunchError: the cluster cannot be reached, or refuses.
        ServingError: it did not answer in time; the version before is served again.
    """
    model = patiently(champion, config.tracking_uri, config.registry.model_name)
    if model is None:
        _say(f"{config.registry.model_name} has no champion: nothing to serve")
        return None
    if not model.uri.startswith("s3://"):
        raise ConfigError(
            f"storage.uri: must be an object store that pods can read, s3://...; the weights are {model.uri}"
        )
    cluster = _cluster()
    wanted = Served.of(model, config.deploy, config.deploy.image or _own_image(cluster))
    kind, present = _present(cluster, wanted.name, model.name)
    if kind == "InferenceService":
        _check_host_name(wanted.name, cluster.namespace)
    return _serve(cluster, wanted, kind, present, config, model)


def page(config: Config, deployed: Deployed | None) -> str:
    """What became of it, in Markdown, words first."""
    name = config.registry.model_name
    if deployed is None:
        why = f"{name} has no champion" if config.deploy.enabled else "`deploy.enabled` is false"
        return f"# deploy\n\nNothing is served by this run: {why}.\n"
    what = deployed.served
    facts = {
        "address in the cluster": f"`{deployed.url}/v1`",
        "object": f"{deployed.kind} `{deployed.namespace}/{what.name}`",
        "weights": f"`{what.uri}`",
        "SHA-256": f"`{what.sha256}`",
        "asked": _cell(deployed.problem) or "nothing: its address cannot be reached from here",
        "answered": _cell(deployed.answer),
    }
    since = "now" if deployed.changed else "as before"
    return "\n".join(
        [
            f"# deploy\n\n**{what.model} version {what.version} is served, {since}.**\n\n| | |\n|---|---|",
            *(f"| {key} | {value} |" for key, value in facts.items()),
            "",
        ]
    )


def _cell(text: str) -> str:
    """A model's or a data set's text as code in a table: on one line, and not so long that it hides the rest."""
    line = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return f"`{line[:300]}`" if line else ""


def follow_champion(config: Config, model: RegisteredModel) -> Deployed | None:
    """Serve `model` where the registry says that another version of it is served; None where none or itself is.

    Raises:
        ServingError: it could not be done; the message says what is served now.
    """
    present = served(config.tracking_uri, model.name)
    if present is None or present.version == model.version:
        return None
    namespace, _, name = present.served_as.partition("/")
    try:
        cluster = _cluster(namespace)
        kind, record = _present(cluster, name, model.name)
        if record is None:
            raise ServingError("there is no such object in this cluster; `fipo deploy` makes one")
        return _serve(cluster, record.at(model), kind, record, config, model)
    except FipoError as error:
        raise ServingError(
            f"{model.name}: version {model.version} is champion, but {present.served_as} in the cluster still serves "
            f"version {present.version}: {error}"
        ) from error


def _serve(
    cluster: ServingCluster, wanted: Served, kind: Kind, before: Served | None, config: Config, model: RegisteredModel
) -> Deployed:
    began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    changed = before is None or before.revision != wanted.revision
    where = f"{kind} {cluster.namespace}/{wanted.name}"
    question = _question(model, config) if cluster.inside else None
    _say(f"{where}: version {wanted.version} of {wanted.model}" + ("" if changed else ", as before"))
    _apply(cluster, wanted, kind)
    try:
        url, answer = _wait(cluster, wanted, kind, question, began)
    except ServingError as error:
        if before is None or not changed or _replaced(cluster, wanted, kind):
            raise
        _say(f"{where}: {error}\ngoing back to version {before.version}")
        _apply(cluster, before, kind)
        _wait(cluster, before, kind, None, began)
        raise ServingError(f"{error}\nversion {before.version} is served again") from error
    served_as = f"{cluster.namespace}/{wanted.name}"
    patiently(set_served, config.tracking_uri, model.name, model.version, served_as)
    _say(f"{where}: version {wanted.version} is served at {url}/v1")
    problem = question.problem if question else ""
    return Deployed(wanted, kind, cluster.namespace, url, changed, problem, answer)


def _apply(cluster: ServingCluster, wanted: Served, kind: Kind) -> None:
    for manifest in wanted.manifests(kind):
        cluster.apply(manifest)


def _present(cluster: ServingCluster, name: str, model: str) -> tuple[Kind, Served | None]:
    """The kind that serves under this name, or shall, and what it serves now: what is a Deployment stays one."""
    kserve = cluster.has_kserve()
    for kind in KINDS if kserve else KINDS[1:]:
        if found := cluster.find(kind, name):
            record = Served.recorded(found)
            if record is None:
                raise ConfigError(
                    f"deploy.name: must be of an object that fipo made, or of none; {kind} {cluster.namespace}/{name} "
                    "is someone else's"
                )
            if record.model != model:
                raise ConfigError(
                    f"deploy.name: must be of an object that serves {model}, or of none; {kind} "
                    f"{cluster.namespace}/{name} serves {record.model}"
                )
            return kind, record
    return ("InferenceService" if kserve else "Deployment"), None


def _check_host_name(name: str, namespace: str) -> None:
    """KServe takes any name, and makes nothing of one with which its host name is none: it says so in events alone."""
    room = HOST_LABEL - len(f"-predictor-{namespace}")
    if len(name) > room:
        raise ConfigError(
            f"deploy.name: must have at most {room} characters in the namespace {namespace}, where KServe makes a host "
            f"name of it; got {name!r}, which has {len(name)}"
        )


def _replaced(cluster: ServingCluster, wanted: Served, kind: Kind) -> bool:
    found = cluster.find(kind, wanted.name)
    return found is None or not wanted.is_at(found)


def _wait(
    cluster: ServingCluster, wanted: Served, kind: Kind, question: Question | None, began: str
) -> tuple[str, str]:
    """Address and answer, once all pods are of this record, ready, and answer; says what it waits for meanwhile."""
    wait, said = Wait(f"version {wanted.version} of {wanted.model}", wanted.settings.patience_seconds), ""
    _say(str(wait))
    while True:
        found = cluster.find(kind, wanted.name)
        if found is None or not wanted.is_at(found):
            raise ServingError(f"{kind} {cluster.namespace}/{wanted.name} was changed or deleted by someone else")
        pods = [pod for pod in _pods(cluster, wanted) if not _over(pod)]
        ours, url = [pod for pod in pods if wanted.is_at(pod)], _url(found, cluster.namespace)
        state = _missing(wanted, ours, others=len(pods) - len(ours)) or ("" if url else "it has no address yet")
        if not state:
            try:
                return url, ask(url, question) if question else ""
            except ServingError as error:
                state = str(error)
        state = "; ".join([state, *dict.fromkeys([*_reasons(ours), *cluster.warnings_about(wanted.name, began)])])
        if state != said:
            said = state
            _say(f"waiting: {state}")
        if wait.over:
            raise ServingError(
                f"version {wanted.version} of {wanted.model} did not answer in {wanted.settings.patience_seconds:g} s "
                f"(deploy.patience_seconds): {state}{_last_lines(cluster, ours)}"
            )
        time.sleep(POLL_SECONDS)


def _last_lines(cluster: ServingCluster, pods: list[Manifest]) -> str:
    """Of the newest pod's log."""
    name = pods[-1]["metadata"]["name"] if pods else ""
    lines = cluster.log(name, CONTAINER, tail_lines=TAIL_LINES) if name else []
    return "\n".join(["", f"pod {name}: its last lines:", *(f"  {line}" for line in lines)]) if lines else ""


def _missing(wanted: Served, ours: list[Manifest], others: int) -> str:
    """What keeps all requests from going to this record's pods; empty when nothing does."""
    ready = sum(_ready(pod) for pod in ours)
    if ready < wanted.settings.replicas:
        return f"{ready} of {wanted.settings.replicas} pods ready"
    return f"{others} pods of the version before have not ended" if others else ""


def _reasons(pods: list[Manifest]) -> list[str]:
    """Why pods are not ready, in the cluster's words."""
    reasons = []
    for pod in pods:
        status = pod.get("status", {})
        states = [entry.get("state", {}) for entry in status.get("containerStatuses", [])]
        waiting = [state["waiting"] for state in states if "waiting" in state]
        waiting += [entry for entry in status.get("conditions", []) if entry.get("reason") == "Unschedulable"]
        reasons += [f"{why['reason']}: {why['message']}" if why.get("message") else why["reason"] for why in waiting]
    return reasons


def _over(pod: Manifest) -> bool:
    """Whether it takes no more requests: it is going, or has ended and is only left to be looked at, as one evicted."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _pods(cluster: ServingCluster, wanted: Served) -> list[Manifest]:
    return cluster.pods(",".join(f"{key}={value}" for key, value in wanted.selector.items()))


def _url(found: Manifest, namespace: str) -> str:
    """In the cluster; empty while KServe has not given one."""
    if found["kind"] == "InferenceService":
        return str(found.get("status", {}).get("address", {}).get("url", "")).rstrip("/")
    return f"http://{found['metadata']['name']}.{namespace}.svc"


def _question(model: RegisteredModel, config: Config) -> Question | None:
    """The first problem of the gate's benchmark, as the model's own evaluation kept it; None where it has none."""
    from fipo.evaluation.tables import read_results

    with tempfile.TemporaryDirectory(prefix="fipo-deploy-") as folder:
        answers = fetch_answers(model, Path(folder))
        names = [path.name.removesuffix("-responses.parquet") for path in sorted(answers.glob("*-responses.parquet"))]
        results = read_results(answers, [name for name in names if name == config.gate_benchmark] or names[:1])
    tokens = min(QUESTION_TOKENS, config.rollout.max_response_tokens)
    problems = [result.problems[0].problem for result in results.values()]
    return Question(model.name, problems[0], tokens, temperature=0.0) if problems else None


def _own_image(cluster: ServingCluster) -> str:
    """The task's own: what trained the model serves it."""
    pod = cluster.pod(os.environ["KFP_POD_NAME"]) if "KFP_POD_NAME" in os.environ else None
    images = [one["image"] for one in pod["spec"]["containers"] if one["name"] == "main"] if pod else []
    if not images:
        raise ConfigError("deploy.image: must be set outside a task of the pipeline, whose own image it is otherwise")
    return str(images[0])


def _cluster(namespace: str = "") -> ServingCluster:
    try:
        from fipo.launch.serving import ServingCluster
    except ModuleNotFoundError as error:
        raise ServingError(f"{error.name} is not installed here: pip install 'fipo[k8s]'") from None
    return ServingCluster(namespace)


def _say(line: str) -> None:
    print(f"[deploy] {line}", flush=True)
