"""May the pipeline's tasks do what they do?"""

from __future__ import annotations

from collections.abc import Iterator

from fipo.findings import Finding
from fipo.launch.check.finding import APPLY, Look

NEEDED = {
    ("trainer.kubeflow.org", "trainjobs"): ("create", "get", "patch", "delete"),
    ("trainer.kubeflow.org", "trainingruntimes"): ("get",),
    ("", "pods"): ("get", "list"),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
    ("argoproj.io", "workflows"): ("get",),
}
"""Group and resource, and the verbs of the role `fipo-launcher`."""

ACCOUNTS = "default-editor in a profile, pipeline-runner where Kubeflow has one user"


def permissions(look: Look) -> Iterator[Finding]:
    """Those of the service account that the role is bound to."""
    binding = look.get("rbac.authorization.k8s.io/v1", "rolebindings", "fipo-launcher")
    if binding is None:
        yield Finding("permissions", "failed", "no RoleBinding fipo-launcher", APPLY)
        return
    for subject in binding.get("subjects", []):
        account, home = subject["name"], subject.get("namespace", look.namespace)
        exists = look.reader.get(f"/api/v1/namespaces/{home}/serviceaccounts/{account}") is not None
        denied = _denied(look, f"system:serviceaccount:{home}:{account}")
        if not exists:
            remedy = f"name the account of the runs in the overlay's RoleBinding: {ACCOUNTS}"
            yield Finding("permissions", "failed", f"no service account {home}/{account}", remedy)
        elif denied:
            yield Finding("permissions", "failed", f"{account} may not {', '.join(denied)}", APPLY)
        else:
            yield Finding("permissions", "ok", f"{account} may start, follow and delete TrainJobs")


def _denied(look: Look, user: str) -> list[str]:
    denied = []
    for (group, resource), verbs in NEEDED.items():
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
