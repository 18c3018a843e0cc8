"""Whole pods, as controllers would make them: of a pipeline's task, of a training job, of a manifest's template."""

import copy
from typing import Any

from fipo.launch.trainjob import TrainJob
from tests.k8s.conftest import job_set
from tests.k8s.test_task_pods import SCRATCH, UNPRIVILEGED
from tests.k8s.test_task_pods import pod as main_of_task

Manifest = dict[str, Any]


def pod(name: str, spec: Manifest, labels: Manifest | None = None) -> Manifest:
    """A pod of this spec, to be asked about in a dry run."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def task_pod(name: str, executor: Manifest, platform: Manifest, account: str) -> Manifest:
    """As a real Kubeflow made it: its launcher and Argo's helpers around the task, whose own words are laid over it."""
    spec = copy.deepcopy(main_of_task(executor, platform))
    (main,) = spec["containers"]
    scratch = [{"name": path.strip("/.").replace("/", "-"), "mountPath": path} for path in SCRATCH]
    claims = [(mount["constant"], mount["mountPath"]) for mount in platform.get("pvcMount", [])]
    main["volumeMounts"] = scratch + [{"name": name, "mountPath": path} for name, path in claims]
    main["env"] = [
        {"name": pair["envVar"], "valueFrom": {kind: {"name": source[holder], "key": pair[key], "optional": True}}}
        for field, kind, holder, key in (
            ("configMapAsEnv", "configMapKeyRef", "configMapName", "configMapKey"),
            ("secretAsEnv", "secretKeyRef", "secretName", "secretKey"),
        )
        for source in platform.get(field, [])
        for pair in source["keyToEnv"]
    ]
    main["command"] = [
        "/var/run/argo/argoexec",
        "emissary",
        "--",
        "/kfp-launcher/launch",
        *executor["container"]["command"],
    ]
    launcher = {**_helper("kfp-launcher", "ghcr.io/kubeflow/kfp-launcher:2.17.0"), "volumeMounts": scratch[:1]}
    launcher["securityContext"] = {**UNPRIVILEGED, "runAsNonRoot": True}
    argo = {**UNPRIVILEGED, "runAsNonRoot": True, "runAsUser": 8737}
    spec |= {
        "initContainers": [{**_helper("init", "quay.io/argoproj/argoexec:v4.0.8"), "securityContext": argo}, launcher],
        "containers": [{**_helper("wait", "quay.io/argoproj/argoexec:v4.0.8"), "securityContext": argo}, main],
        "volumes": [{"name": mount["name"], "emptyDir": {}} for mount in scratch]
        + [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _ in claims],
        "serviceAccountName": account,
        "restartPolicy": "Never",
    }
    return pod(name, spec, {"pipelines.kubeflow.org/v2_component": "true"})


def _helper(name: str, image: str) -> Manifest:
    return {"name": name, "image": image, "command": ["sh"]}


def job_pods(runtime: Manifest, job: TrainJob) -> list[Manifest]:
    """One of each replicated job of the JobSet that Trainer makes."""
    made = job_set(runtime, job.manifest())
    templates = {entry["name"]: entry["template"]["spec"]["template"] for entry in made["spec"]["replicatedJobs"]}
    return [
        pod(f"{name}-0-0", template["spec"], template["metadata"]["labels"]) for name, template in templates.items()
    ]
