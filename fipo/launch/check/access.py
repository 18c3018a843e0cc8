"""May the pipeline's tasks do what they do?"""

from __future__ import annotations

from collections.abc import Iterator

from fipo.findings import Finding
from fipo.launch.check.finding import APPLY, Look

NEEDED = {
    "fipo-launcher": {
        ("trainer.kubeflow.org", "trainjobs"): ("create", "get", "patch", "delete"),
        ("trainer.kubeflow.org", "trainingruntimes"): ("get",),
        ("", "pods"): ("get", "list"),
        ("", "pods/log"): ("get",),
        ("", "events"): ("list",),
        ("argoproj.io", "workflows"): ("get",),
    },
    "fipo-reaper": {
        ("trainer.kubeflow.org", "trainjobs"): ("list", "delete"),
        ("argoproj.io", "workflows"): ("get", "list"),
        ("", "pods"): ("get",),
    },
}
"""By role, the group and resource, and the verbs."""
MAY = {"fipo-launcher": "start, follow and delete TrainJobs", "fipo-reaper": "end what a terminated run leaves"}
ACCOUNTS = "default-editor in a profile, pipeline-runner where Kubeflow has one user"


def permissions(look: Look) -> Iterator[Finding]:
    """Those of the service accounts that the roles are bound to."""
    for role in NEEDED:
        binding = look.get("rbac.authorization.k8s.io/v1", "rolebindings", role)
        if binding is None:
            yield Finding("permissions", "failed", f"no RoleBinding {role}", APPLY)
            continue
        for subject in binding.get("subjects", []):
            yield _permission(look, role, subject["name"], subject.get("namespace", look.namespace))


def _permission(look: Look, role: str, account: str, home: str) -> Finding:
    if home != look.namespace:
        found = f"RoleBinding {role} is for {home}/{account}; pods of {look.namespace} run as accounts of their own"
        return Finding("permissions", "failed", found, f"namespace: {look.namespace} in the overlay, and {APPLY}")
    if look.get("v1", "serviceaccounts", account) is None:
        remedy = f"name the account of the runs in the overlay's RoleBinding: {ACCOUNTS}"
        return Finding("permissions", "failed", f"no service account {home}/{account}", remedy)
    if denied := _denied(look, role, f"system:serviceaccount:{home}:{account}"):
        return Finding("permissions", "failed", f"{account} may not {', '.join(denied)}", APPLY)
    return Finding("permissions", "ok", f"{account} may {MAY[role]}")


def _denied(look: Look, role: str, user: str) -> list[str]:
    denied = []
    for (group, resource), verbs in NEEDED[role].items():
        for verb in verbs:
            name, _, subresource = resource.partition("/")
            asked = {
                "namespace": look.namespace,
                "verb": verb,
                "group": group,
                "resource": name,
                "subresource": subresource,
            }
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": user, "resourceAttributes": asked},
            }
            answer = look.reader.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            if not answer["status"]["allowed"]:
                denied.append(f"{verb} {resource}")
    return denied
