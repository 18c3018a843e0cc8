"""Published schemas, strictly applied, and a small API server that the real clients talk to."""

import copy
import functools
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import celpy
import jsonschema
import pytest
import yaml
from celpy.adapter import json_to_cel

from tests.k8s.webhooks import refusals

RENDERED = Path(__file__).parents[2] / "k8s" / "rendered"
SCHEMAS = {path.stem: json.loads(path.read_text())["schema"] for path in Path(__file__).parent.glob("schemas/*.json")}


def refuse_unknown(schema: Any) -> Any:
    """An OpenAPI schema as the API server applies it under strict field validation: unknown fields are errors."""
    if isinstance(schema, list):
        return [refuse_unknown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: refuse_unknown(value) for key, value in schema.items()}
    closed = "properties" in schema and "additionalProperties" not in schema
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields") and isinstance(schema["properties"], dict):
        strict["additionalProperties"] = False
    return strict


def rules(schema: Any, value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every CEL rule that applies to a new object: where, the rule, the value it judges."""
    if not isinstance(schema, dict) or value is None:
        return
    for entry in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in entry["rule"]:  # those judge changes
            yield path, entry["rule"], value
    if isinstance(value, dict):
        for key, child in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            yield from rules(inner, child, f"{path}.{key}")
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from rules(schema.get("items"), child, f"{path}[{index}]")


@functools.cache
def program(rule: str) -> celpy.Runner:
    """A CEL rule, compiled once for all tests."""
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def check_resource(manifest: dict[str, Any]) -> None:
    """Hold a custom resource against its published schema, unknown fields and CEL rules included."""
    schema = SCHEMAS[manifest["kind"].lower()]
    top = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
    jsonschema.validate(manifest, refuse_unknown(top))
    for path, rule, value in rules(schema, manifest):
        assert program(rule).evaluate({"self": json_to_cel(value)}), f"{path}: {rule}"


def job_set(runtime: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """What Kubeflow Trainer makes of a TrainJob and its runtime; it refuses what Trainer's and JobSet's webhooks do."""
    template, spec = copy.deepcopy(runtime["spec"]["template"]["spec"]), job["spec"]
    pods = {entry["name"]: entry["template"]["spec"]["template"]["spec"] for entry in template["replicatedJobs"]}
    for patch in spec.get("runtimePatches", []):
        for entry in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            assert entry["name"] in pods, f"the runtime has no replicated job {entry['name']}"
            _lay_over(pods[entry["name"]], entry["template"]["spec"]["template"]["spec"])
    (node,) = [container for container in pods["node"]["containers"] if container["name"] == "node"]
    trainer = spec["trainer"]
    node |= {key: trainer[key] for key in ("image", "command", "args") if key in trainer}
    if "resourcesPerNode" in trainer:  # since Trainer 2.3 laid over the runtime's, resource by resource
        own = node.get("resources", {})
        node["resources"] = {
            kind: {**own.get(kind, {}), **trainer["resourcesPerNode"].get(kind, {})} for kind in ("requests", "limits")
        }
    node["env"] = _merged(node.get("env", []), trainer.get("env", []), "name")
    for entry in template["replicatedJobs"]:
        if entry["name"] == "node":
            entry["template"]["spec"] |= {"parallelism": trainer["numNodes"], "completions": trainer["numNodes"]}
        entry |= {"replicas": 1}
    metadata = {"name": job["metadata"]["name"], "labels": job["metadata"]["labels"]}
    made = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": template}
    assert refusals(job, runtime) + refusals(made) == []
    return made


def _lay_over(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    for container in patch.get("containers", []):
        (target,) = [entry for entry in pod["containers"] if entry["name"] == container["name"]]
        assert container["name"] != "node" or "env" not in container, "Trainer takes the node's env from spec.trainer"
        target["env"] = _merged(target.get("env", []), container.get("env", []), "name")
        target["volumeMounts"] = _merged(target["volumeMounts"], container.get("volumeMounts", []), "mountPath")
    pod["volumes"] = _merged(pod["volumes"], patch.get("volumes", []), "name")
    if "nodeSelector" in patch:  # a map, which a strategic merge merges; tolerations are atomic
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **patch["nodeSelector"]}
    pod |= {key: patch[key] for key in ("tolerations",) if key in patch}


def _merged(base: list[dict[str, Any]], over: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return list({entry[key]: entry for entry in [*base, *over]}.values())


@functools.cache
def roles() -> list[dict[str, Any]]:
    """Those of the manifests, which take most of a second to read."""
    return [item for item in yaml.safe_load_all((RENDERED / "prod.yaml").read_text()) if item["kind"] == "Role"]


BREAKS_OFF = -1


class ApiServer:
    """The part of the Kubernetes API that fipo uses, over HTTP, with its state in memory.

    `script` holds what happens in the cluster: one function before each read of a TrainJob, in turn. `faults` holds
    HTTP statuses to answer with instead; 0 drops the connection, `BREAKS_OFF` in the middle of the answer.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.workflows: dict[str, dict[str, Any]] = {}
        self.runtimes: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[str]] = {}
        self.script: list[Callable[[dict[str, Any]], None]] = []
        self.faults: list[int] = []
        self.granted: set[tuple[str, str]] = set()
        """(verb, resource) that the service account may use; see `act_as`."""
        self.used: set[tuple[str, str]] = set()
        self.created = 0
        self.lost_node: int = 0
        """The status with which every log is refused: the API server asks the pod's node for it."""
        self.lingering = False
        """Deleted objects stay, marked, until the test removes them: Kubernetes waits for their pods."""
        self.on_create: Callable[[dict[str, Any]], None] = lambda manifest: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def act_as(self, role: str) -> None:
        """Grant what the role in the manifests grants, and refuse the rest."""
        (rules,) = [item["rules"] for item in roles() if item["metadata"]["name"] == role]
        self.granted = {(verb, name) for rule in rules for verb in rule["verbs"] for name in rule["resources"]}

    def add_pod(self, job: str, index: int = 0, *, attempt: int = 0, **status: Any) -> str:
        name = f"{job}-node-0-{index}-{attempt}"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        created = f"2026-11-23T12:00:{attempt:02}Z"
        metadata = {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": created}
        spec = {"nodeName": f"machine-{index}"}
        self.pods[name] = {"metadata": metadata, "spec": spec, "status": {"phase": "Running", **status}}
        self.logs[name] = []
        return name

    def warn(self, kind: str, name: str, reason: str, message: str, count: int = 1, at: str = "12:00:01") -> None:
        """Record a Warning event as its reporter does: those on the new API leave `count` and `lastTimestamp` out."""
        moment, new = f"2026-11-23T{at}", kind in ("TrainJob", "JobSet")
        event: dict[str, Any] = {"type": "Warning", "reason": reason, "message": message}
        event["involvedObject"] = {"kind": kind, "name": name, "namespace": "team"}
        event["metadata"] = {"name": f"{name}.{len(self.events):016x}", "creationTimestamp": "2026-11-23T12:00:00Z"}
        if new:
            series = {"count": count, "lastObservedTime": f"{moment}.000001Z"} if count > 1 else None
            event |= {"eventTime": f"{moment}.000001Z", "lastTimestamp": None, "series": series}
        else:
            event |= {"eventTime": None, "lastTimestamp": f"{moment}Z", "count": count}
        self.events[event["metadata"]["name"]] = event

    def log(self, pod: str, *lines: str) -> None:
        for line in lines:
            self.logs[pod].append(f"2026-11-23T12:00:00.{len(self.logs[pod]) + 1:09}Z {line}")

    def finish(self, job: str, kind: str, message: str = "") -> None:
        condition = {"type": kind, "status": "True", "reason": f"Jobs{kind}", "message": message}
        self.jobs[job].setdefault("status", {})["conditions"] = [condition]

    def answer(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        parts, query = urlsplit(url).path.strip("/").split("/"), parse_qs(urlsplit(url).query)
        resource, *name = parts[parts.index("namespaces") + 2 :]
        if method == "POST" and name[1:] == ["status"]:  # Trainer's own server
            return 200, self.jobs[name[0]].setdefault("status", {}).update(body or {})
        tables = {"trainjobs": self.jobs, "trainingruntimes": self.runtimes, "workflows": self.workflows}
        table = {**tables, "pods": self.pods, "events": self.events}[resource]
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get" if name else "list"}[method]
        permission = (verb, "/".join([resource, *name[1:]]))
        self.used.add(permission)
        if permission not in self.granted:
            return 403, {"message": f"cannot {' '.join(permission)}"}
        if method == "POST":
            return self._create(body or {})
        for key, item in table.items():  # which every object has
            has = {"creationTimestamp": "2026-11-23T12:00:00Z", "uid": f"uid-{key}", "resourceVersion": "1"}
            item["metadata"] = has | item["metadata"]
        if verb == "list":
            labels, fields = (selector(query, kind) for kind in ("labelSelector", "fieldSelector"))
            items = [item for item in table.values() if labels.items() <= labels_of(item).items()]
            return 200, {"items": [item for item in items if fields.items() <= item.items()]}
        if name[0] not in table:
            return 404, {"message": f'{resource} "{name[0]}" not found'}
        if method == "DELETE":
            return self._delete(table, name[0], body or {})
        if method == "PATCH":
            table[name[0]]["metadata"] |= (body or {})["metadata"]
            return 200, table[name[0]]
        if name[1:] == ["log"] and self.lost_node:
            return self.lost_node, {"message": "dial tcp 10.0.0.7:10250: connect: connection refused"}
        if name[1:] == ["log"]:
            return self._log(name[0], query)
        if resource == "trainjobs" and self.script:
            self.script.pop(0)(table[name[0]])
        return (200, table[name[0]]) if name[0] in table else (404, {"message": "gone"})

    def _create(self, manifest: dict[str, Any]) -> tuple[int, Any]:
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            return 409, {"message": f'trainjobs "{name}" already exists'}
        check_resource(manifest)
        self.created += 1
        manifest["metadata"]["creationTimestamp"] = "2026-11-23T12:00:00Z"
        self.jobs[name] = manifest
        self.on_create(manifest)
        return 201, manifest

    def _delete(
        self, table: dict[str, dict[str, Any]], name: str, options: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        # With options in its body the API server passes over those of the address.
        if not options.get("preconditions", {}).items() <= table[name]["metadata"].items():
            return 409, {"message": "the precondition does not hold"}
        # A TrainJob that waits for its pods is given new ones by Trainer 2.3: seen to go on for ever.
        if self.lingering or options.get("propagationPolicy", "Background") == "Foreground":
            table[name]["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
            return 200, table[name]
        return 200, table.pop(name)

    def _log(self, pod: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        lines = self.logs[pod][-int(query.get("tailLines", ["100000"])[0]) :]
        stamped = query.get("timestamps") == ["True"]
        return 200, "".join(f"{line if stamped else line.split(' ', 1)[1]}\n" for line in lines)

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                fault = server.faults.pop(0) if server.faults else None
                if fault == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, answer = (
                    (fault, {"message": "scripted"})
                    if fault not in (None, BREAKS_OFF)
                    else server.answer(self.command, self.path, body)
                )
                text = answer if isinstance(answer, str) else json.dumps(answer)
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                if fault == BREAKS_OFF:
                    self.close_connection, text = True, text[: len(text) // 2]
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PATCH = do_DELETE = respond

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def selector(query: dict[str, list[str]], kind: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in query.get(kind, [""])[0].split(",") if pair)


def labels_of(item: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = item["metadata"].get("labels", {})
    return labels


class WholeCluster(ApiServer):
    """Any object of any group, by its path, to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        """Beginnings of paths that the user may not see."""
        self.denied: set[str] = set()
        """`verb resource` that the service account may not."""

    def answer(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if any(path.startswith(hidden) for hidden in self.hidden):
            return 403, {"message": f"cannot {method} {path}"}
        if method == "POST":
            asked = (body or {})["spec"]["resourceAttributes"]
            resource = "/".join(part for part in (asked["resource"], asked["subresource"]) if part)
            return 201, {"status": {"allowed": f"{asked['verb']} {resource}" not in self.denied}}
        if path in self.objects:
            return 200, self.objects[path]
        labels, fields = (selector(query, kind) for kind in ("labelSelector", "fieldSelector"))
        items = [item for key, item in self.objects.items() if key.rpartition("/")[0] == path]
        items = [item for item in items if labels.items() <= labels_of(item).items() and fields.items() <= item.items()]
        return (200, {"items": items}) if path.rpartition("/")[2] in LISTS else (404, {"message": "not found"})


LISTS = {
    "endpointslices",
    "events",
    "mutatingwebhookconfigurations",
    "pods",
    "resourcequotas",
    "storageclasses",
    "validatingwebhookconfigurations",
}
"""What may be listed, empty or not."""


@pytest.fixture
def whole(tmp_path, monkeypatch) -> Iterator[WholeCluster]:
    """An empty cluster to fill, and a kubeconfig that leads to it."""
    server = WholeCluster()
    point_kubeconfig(server, tmp_path, monkeypatch, namespace="kubeflow")
    yield server
    server.close()


@pytest.fixture
def api(tmp_path, monkeypatch) -> Iterator[ApiServer]:
    """The API server, and a kubeconfig that leads to it."""
    server = ApiServer()
    point_kubeconfig(server, tmp_path, monkeypatch, namespace="team")
    yield server
    server.close()


def point_kubeconfig(server: ApiServer, tmp_path: Path, monkeypatch: Any, namespace: str) -> None:
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": context}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


@pytest.fixture
def runtimes() -> dict[str, dict[str, Any]]:
    """The TrainingRuntimes of the overlay `gpu`, by name, which here does without fipo's version."""
    found = [
        item for item in yaml.safe_load_all((RENDERED / "gpu.yaml").read_text()) if item["kind"] == "TrainingRuntime"
    ]
    for item in found:
        item["metadata"]["name"] = re.sub(r"-\d+-\d+-\d+", "", item["metadata"]["name"])
    return {item["metadata"]["name"]: item for item in found}


@pytest.fixture
def build() -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """`build(runtime, job)`: the JobSet that Kubeflow Trainer makes."""
    return job_set


@pytest.fixture
def check() -> Callable[[dict[str, Any]], None]:
    return check_resource
