"""What a cluster refuses although the schemas allow it: the rules of admission webhooks and of the API server itself.

`refusals` gives the reasons, none for what would be admitted. In our words, from
https://github.com/kubernetes-sigs/jobset/blob/v0.12.0/pkg/webhooks/jobset_webhook.go
https://github.com/kubeflow/trainer/blob/v2.3.0/pkg/webhooks/trainingruntime_webhook.go
https://github.com/kubeflow/trainer/blob/v2.3.0/pkg/runtime/framework/plugins/torch/torch.go
https://github.com/kubeflow/trainer/blob/v2.3.0/pkg/runtime/framework/plugins/jobset/jobset.go
https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/apis/batch/validation/validation.go
https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/apis/core/validation/validation.go
as far as they concern what fipo uses.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from tests.present import present

Manifest = dict[str, Any]
ANCESTOR = "trainer.kubeflow.org/trainjob-ancestor-step"
CONTAINER_OF = {
    "trainer": "node",
    "model-initializer": "model-initializer",
    "dataset-initializer": "dataset-initializer",
}
TORCHRUN = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
JOB_FAILURES = {
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
    "PodFailurePolicy",
}
ALPHA = {"RestartJob", "RestartJobAndIgnoreMaxRestarts", "InPlaceRestart"}
RULE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
PREFIXED_PATH = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
SUFFIXES: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
}
SUFFIXES |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGTP", start=1)}


def refusals(manifest: Manifest, runtime: Manifest | None = None) -> list[str]:
    """Why a cluster would not take this manifest.

    Args:
        manifest: of any kind.
        runtime: the TrainingRuntime that a TrainJob names; a TrainJob needs it.
    """
    reasons = list(_labels(manifest["metadata"].get("labels", {})))
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "JobSet":
            reasons += _job_set(manifest["metadata"]["name"], spec)
        case "TrainingRuntime":
            reasons += [*_runtime(spec), *_job_set("x", spec["template"]["spec"])]
        case "TrainJob":
            assert runtime is not None, "a TrainJob is judged together with its runtime"
            reasons += _train_job(spec, runtime["spec"])
        case "Deployment" | "StatefulSet" | "DaemonSet":
            claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
            selector = spec["selector"]["matchLabels"].items()
            if not selector <= spec["template"]["metadata"]["labels"].items():
                reasons.append("its selector does not select its own pods")
            reasons += _pod(spec["template"], claims)
        case "CronJob":
            reasons += _job(spec["jobTemplate"]["spec"])
        case "Job":
            reasons += _job(spec)
    return reasons


def quantity(text: Any) -> Decimal:
    """A Kubernetes quantity as a number: 1500Gi, 500m, 8."""
    number, suffix = present(re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))).groups()
    return Decimal(number) * SUFFIXES[suffix]


def _label(name: str, what: str, pattern: re.Pattern[str] = DNS_1035) -> Iterator[str]:
    if not pattern.fullmatch(name):
        yield f"{what} {name!r} is no DNS label"
    if len(name) > 63:
        yield f"{what} {name!r} has {len(name)} characters; 63 are allowed"


def _labels(labels: dict[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            yield f"label {key}: {value!r} is no label value"


def _repeated(names: Iterable[str], what: str) -> Iterator[str]:
    yield from (f"{what} {name!r} is there twice" for name, count in Counter(names).items() if count > 1)


def _job_set(name: str, spec: Manifest) -> Iterator[str]:
    jobs = spec["replicatedJobs"]
    names = [job["name"] for job in jobs]
    yield from _repeated(names, "replicated job")
    for index, job in enumerate(jobs):
        replicas, template = job.get("replicas", 1), job["template"]["spec"]
        yield from _label(job.get("groupName", "default"), "group")
        yield from _label(f"{name}-{job['name']}-{replicas - 1}", "job")
        last = template.get("completions", template.get("parallelism", 1)) - 1
        yield from _label(f"{name}-{job['name']}-{replicas - 1}-{last}-abcde", "pod")
        if "dependsOn" in job and index == 0:
            yield f"{job['name']} is the first job and depends on another"
        before = names[:index]
        yield from (f"{job['name']} depends on what does not precede it" for need in job.get("dependsOn", [])
                    if need["name"] not in before)  # fmt: skip
        yield from _labels(job["template"].get("metadata", {}).get("labels", {}))
        yield from _job({"completionMode": "Indexed", **template})
    yield from _targets(spec.get("successPolicy", {}), names, "success policy")
    yield from _failure_policy(spec.get("failurePolicy", {}), names)


def _targets(policy: Manifest, names: list[str], what: str) -> Iterator[str]:
    for target in policy.get("targetReplicatedJobs", []):
        if target not in names:
            yield f"{what} names the replicated job {target!r}, which is not there"


def _failure_policy(policy: Manifest, names: list[str]) -> Iterator[str]:
    rules = policy.get("rules", [])
    yield from _repeated((rule["name"] for rule in rules), "failure policy rule")
    if policy.get("restartStrategy") in ALPHA:
        yield f"{policy['restartStrategy']} is behind a feature gate"
    for rule in rules:
        if not RULE_NAME.fullmatch(rule["name"]) or len(rule["name"]) > 128:
            yield f"invalid failure policy rule name {rule['name']!r}"
        if rule["action"] in ALPHA:
            yield f"{rule['action']} is behind a feature gate"
        for reason in rule.get("onJobFailureReasons", []):
            if reason not in JOB_FAILURES:
                yield f"{reason!r} is no reason for which a job fails"
        yield from _targets(rule, names, f"failure policy rule {rule['name']}")


def _runtime(spec: Manifest) -> Iterator[str]:
    policies = spec.get("mlPolicy", {}).keys() - {"numNodes"}
    if len(policies) > 1:
        yield f"several ML policies: {sorted(policies)}"
    trainers = 0
    for job in spec["template"]["spec"]["replicatedJobs"]:
        ancestor = job["template"].get("metadata", {}).get("labels", {}).get(ANCESTOR)
        trainers += ancestor == "trainer"
        if ancestor in CONTAINER_OF:
            if job.get("replicas", 1) != 1:
                yield f"{job['name']} must have one replica"
            containers = [container["name"] for container in job["template"]["spec"]["template"]["spec"]["containers"]]
            if CONTAINER_OF[ancestor] not in containers:
                yield f"{job['name']} needs a container {CONTAINER_OF[ancestor]!r}"
            if ancestor == "trainer" and job["name"] != "node":  # PET_MASTER_ADDR is <job>-node-0-0.<job>
                yield f"the trainer's replicated job must be named 'node', not {job['name']!r}"
    if trainers != 1:  # not refused, but such a job gets neither nodes nor torchrun's variables
        yield f"{trainers} replicated jobs have the label {ANCESTOR}: trainer"


def _train_job(spec: Manifest, runtime: Manifest) -> Iterator[str]:
    jobs = {
        job["name"]: {
            container["name"]
            for kind in ("initContainers", "containers")
            for container in job["template"]["spec"]["template"]["spec"].get(kind, [])
        }
        for job in runtime["template"]["spec"]["replicatedJobs"]
    }
    trainer = spec.get("trainer", {})
    if "torch" in runtime.get("mlPolicy", {}):
        reserved = TORCHRUN & {variable["name"] for variable in trainer.get("env", [])}
        yield from (f"{name} is torchrun's own variable" for name in sorted(reserved))
    for patch in spec.get("runtimePatches", []):
        if not PREFIXED_PATH.fullmatch(patch["manager"]):
            yield f"the patch's manager {patch['manager']!r} is no domain and path"
        template = patch.get("trainingRuntimeSpec", {}).get("template", {})
        for job in template.get("spec", {}).get("replicatedJobs", []):
            if job["name"] not in jobs:
                yield f"the runtime has no replicated job {job['name']!r}"
                continue
            pod = job.get("template", {}).get("spec", {}).get("template", {}).get("spec", {})
            for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
                if container["name"] not in jobs[job["name"]]:
                    yield f"the runtime's job {job['name']!r} has no container {container['name']!r}"
                elif container.get("env") and container["name"] in CONTAINER_OF.values():
                    yield f"variables of the container {container['name']!r} belong into spec.trainer"


def _job(spec: Manifest) -> Iterator[str]:
    template = spec["template"]
    pod = template["spec"]
    policy, containers = pod.get("restartPolicy"), [*pod.get("initContainers", []), *pod["containers"]]
    if policy not in {"Never", "OnFailure"}:
        yield f"a job's pods have restartPolicy Never or OnFailure; got {policy}"
    if "podFailurePolicy" in spec and policy != "Never":
        yield "podFailurePolicy needs restartPolicy Never"
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes", {"values": [], "operator": "NotIn"})
        if "containerName" in codes and codes["containerName"] not in {entry["name"] for entry in containers}:
            yield f"podFailurePolicy names the container {codes['containerName']!r}, which is not there"
        if codes["values"] != sorted(set(codes["values"])) or (codes["operator"] == "In" and 0 in codes["values"]):
            yield f"exit codes must be in order, each once, and not 0: {codes['values']}"
    yield from _pod(template)


def _pod(template: Manifest, claims: Iterable[str] = ()) -> Iterator[str]:
    spec = template["spec"]
    yield from _labels(template.get("metadata", {}).get("labels", {}))
    volumes = [*claims, *(volume["name"] for volume in spec.get("volumes", []))]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    yield from _repeated(volumes, "volume")
    yield from _repeated((container["name"] for container in containers), "container")
    for name in volumes:
        yield from _label(name, "volume", DNS_1123)
    for container in containers:
        yield from (f"{container['name']}: {reason}" for reason in _container(container, volumes))


def _container(container: Manifest, volumes: list[str]) -> Iterator[str]:
    yield from _label(container["name"], "container", DNS_1123)
    mounts = container.get("volumeMounts", [])
    yield from _repeated((mount["mountPath"] for mount in mounts), "mount path")
    yield from (f"no volume {mount['name']!r}" for mount in mounts if mount["name"] not in volumes)
    ports = [port.get("name", "") for port in container.get("ports", [])]
    yield from (f"port name {name!r} is too long" for name in ports if len(name) > 15)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for action in ("httpGet", "tcpSocket"):
            port = container.get(probe, {}).get(action, {}).get("port", 0)
            if isinstance(port, str) and port not in ports:
                yield f"{probe} asks the port {port!r}, which is not there"
    for variable in container.get("env", []):
        if variable.get("value") and "valueFrom" in variable:
            yield f"{variable['name']} has a value and a source"
    yield from _resources(container.get("resources", {}))


def _resources(resources: Manifest) -> Iterator[str]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in limits.keys() | requests.keys():
        limit, request = limits.get(name), requests.get(name, limits.get(name))
        exact = "/" in name or name.startswith("hugepages-")  # devices are not overcommitted
        if exact and (limit is None or quantity(limit) != quantity(request)):
            yield f"{name} needs a limit, and a request that equals it"
        elif limit is not None and quantity(request) > quantity(limit):
            yield f"{name}: the request {request} is above the limit {limit}"
    if any(name.startswith("hugepages-") for name in limits) and not {"cpu", "memory"} & {*limits, *requests}:
        yield "huge pages need a request of cpu or memory too"
