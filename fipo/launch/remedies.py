"""What to do about what a cluster says, by its words."""

from __future__ import annotations

import re

_REMEDIES = {
    r"exceeded quota": "see `kubectl describe resourcequota --namespace {namespace}`: raise it, or ask for less "
    "(trainjob.nodes, gpus_per_node, cpus_per_node, memory_per_node)",
    r"violates PodSecurity": "the pods break the namespace's Pod Security level: apply the overlay of this version, "
    "and look for what your own overlay changes in securityContext",
    r'no matches for kind "PodGroup"': "the TrainingRuntime asks for the scheduler plugin coscheduling, which is not "
    "installed: install it, or take spec.podGroupPolicy out of the TrainingRuntime",
    r"failed calling webhook|connection refused": "a webhook does not answer: `kubectl --namespace kubeflow-system get "
    "pods` shows Trainer's and JobSet's; wait until they are ready",
    r"admission webhook .* denied": "the cluster refuses what the TrainingRuntime asks for: apply the overlay of this "
    "version, and look for what your own overlay changes in the TrainingRuntime",
    r"no PriorityClass|serviceaccount .* not found": "apply the overlay again: `kubectl apply --kustomize "
    "k8s/overlays/...` makes what is missing",
    r"(?i)persistentvolumeclaim .* not found": "apply the overlay again: it makes the volume",
    r"unbound immediate PersistentVolumeClaims": "the volume is not bound: `kubectl --namespace {namespace} describe "
    "pvc`; name a storage class that exists and offers its access mode",
    r"(?i)secret .*not found|couldn't find key": "make the secret, or the key in it, see docs/deploy.md",
    r"(?i)configmap .*not found": "apply the overlay again: it makes the config map",
    r"ErrImage|ImagePull|InvalidImageName|pull image": "the node cannot get the image: is its name right, was it "
    "pushed, does the service account have imagePullSecrets?",
    r"(?i)forbidden|cannot create": "a controller lacks a permission, see `kubectl --namespace {namespace} get events`",
}


def remedy(said: str, namespace: str) -> str:
    """What mends it, as far as the words tell."""
    found = (text for pattern, text in _REMEDIES.items() if re.search(pattern, said))
    general = "`fipo cluster check --namespace {namespace}` looks at everything that a job needs"
    return next(found, general).format(namespace=namespace)
