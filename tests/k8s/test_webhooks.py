"""The rules in webhooks.py find what they are for, and nothing that is rendered breaks one."""

import copy

import pytest
import yaml

from tests.k8s.test_manifests import COMPOSED, OVERLAYS, load, needs_kustomize
from tests.k8s.webhooks import refusals


@pytest.mark.parametrize("overlay", [*OVERLAYS, *(pytest.param(name, marks=needs_kustomize) for name in COMPOSED)])
def test_no_webhook_refuses_what_is_rendered(overlay):
    for manifest in load(overlay):
        assert refusals(manifest) == [], f"{manifest['kind']} {manifest['metadata']['name']}"


RUNTIME = yaml.safe_load("""
kind: TrainingRuntime
metadata: {name: r}
spec:
  mlPolicy: {numNodes: 1, torch: {}}
  template:
    spec:
      failurePolicy:
        rules: [{name: give_up, action: FailJobSet, onJobFailureReasons: [PodFailurePolicy]}]
      successPolicy: {operator: All, targetReplicatedJobs: [node]}
      replicatedJobs:
        - name: node
          template:
            metadata: {labels: {trainer.kubeflow.org/trainjob-ancestor-step: trainer}}
            spec:
              parallelism: 16
              podFailurePolicy:
                rules: [{action: FailJob, onExitCodes: {containerName: node, operator: In, values: [2, 65]}}]
              template:
                spec:
                  restartPolicy: Never
                  containers:
                    - name: node
                      resources: {requests: {cpu: "1"}, limits: {cpu: "1", nvidia.com/gpu: "8"}}
                      volumeMounts: [{name: shm, mountPath: /dev/shm}]
                  volumes: [{name: shm, emptyDir: {}}]
        - name: rollout
          template: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: server}]}}}}
""")
SPEC = ("spec", "template", "spec")
RULE = (*SPEC, "failurePolicy", "rules", 0)
NODE = (*SPEC, "replicatedJobs", 0)
POD = (*NODE, "template", "spec", "template", "spec")


def changed(manifest, path, value):
    """A copy with another value at the path."""
    changed = copy.deepcopy(manifest)
    *parents, last = path
    place = changed
    for key in parents:
        place = place[key]
    place[last] = value
    return changed


REFUSED = {
    # The first is what a real cluster refused.
    "a hyphen in a rule's name": ((*RULE, "name"), "not-worth-a-restart", "invalid failure policy rule name"),
    "a rule's name that ends in a comma": ((*RULE, "name"), "give_up,", "invalid failure policy rule name"),
    "a reason that no job has": ((*RULE, "onJobFailureReasons"), ["Evicted"], "no reason for which a job fails"),
    "an action behind a gate": ((*RULE, "action"), "RestartJob", "feature gate"),
    "a rule for a job that is not there": ((*RULE, "targetReplicatedJobs"), ["trainer"], "which is not there"),
    "success of a job that is not there": ((*SPEC, "successPolicy"), {"targetReplicatedJobs": ["x"]}, "which is not"),
    "two jobs of one name": ((*SPEC, "replicatedJobs", 1, "name"), "node", "is there twice"),
    "a capital in a job's name": ((*SPEC, "replicatedJobs", 1, "name"), "Rollout", "no DNS label"),
    "the first job depends on another": ((*NODE, "dependsOn"), [{"name": "rollout"}], "depends on"),
    "two replicas of the trainer": ((*NODE, "replicas"), 2, "must have one replica"),
    "no container `node`": ((*POD, "containers", 0, "name"), "trainer", "needs a container 'node'"),
    "no trainer": ((*NODE, "template", "metadata"), {}, "0 replicated jobs have the label"),
    "two ML policies": (("spec", "mlPolicy", "mpi"), {}, "several ML policies"),
    "exit codes out of order": (
        (*NODE, "template", "spec", "podFailurePolicy", "rules", 0, "onExitCodes", "values"),
        [65, 2],
        "in order",
    ),
    "a failure policy of pods that restart": ((*POD, "restartPolicy"), "OnFailure", "needs restartPolicy Never"),
    "a mount of no volume": ((*POD, "volumes"), [], "no volume 'shm'"),
    "a device with another request": (
        (*POD, "containers", 0, "resources", "requests"),
        {"nvidia.com/gpu": "4"},
        "equals it",
    ),
    "more requested than allowed": ((*POD, "containers", 0, "resources", "requests"), {"cpu": "2"}, "above the limit"),
}


def test_the_example_is_admitted():
    assert refusals(RUNTIME) == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_a_rule_is_refused(case):
    path, value, reason = REFUSED[case]
    found = refusals(changed(RUNTIME, path, value))
    assert any(reason in text for text in found), found


def test_names_of_generated_pods_must_fit():
    job_set = {"kind": "JobSet", "metadata": {"name": "x" * 44}, "spec": RUNTIME["spec"]["template"]["spec"]}
    assert refusals(job_set) == []  # x…x-node-0-15-abcde has 57 characters, x…x-rollout-0-0-abcde 60
    long = changed(job_set, ("metadata", "name"), "x" * 48)
    assert any("pod" in text and "64 characters" in text for text in refusals(long)), refusals(long)
    assert refusals(changed(job_set, ("metadata", "name"), "7b-run"))  # a job's name starts with a letter


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"trainer": {"env": [{"name": "PET_NNODES", "value": "2"}]}}, "torchrun's own variable"),
        ({"runtimePatches": [{"manager": "fipo"}]}, "no domain and path"),
        ({"patched": {"name": "servers"}}, "no replicated job 'servers'"),
        ({"patched": {"name": "rollout", "container": {"name": "node"}}}, "no container 'node'"),
        ({"patched": {"name": "node", "container": {"name": "node", "env": [{"name": "A"}]}}}, "belong into"),
    ],
)
def test_what_a_train_job_may_not_say(spec, reason):
    if patched := spec.pop("patched", None):
        pod = {"spec": {"containers": [patched["container"]] if "container" in patched else []}}
        job = {"name": patched["name"], "template": {"spec": {"template": pod}}}
        template = {"spec": {"replicatedJobs": [job]}}
        spec["runtimePatches"] = [{"manager": "fipo.dev/pipeline", "trainingRuntimeSpec": {"template": template}}]
    manifest = {"kind": "TrainJob", "metadata": {"name": "j"}, "spec": spec}
    assert any(reason in text for text in refusals(manifest, RUNTIME)), refusals(manifest, RUNTIME)
    allowed = {"trainer": {"env": [{"name": "A"}]}, "runtimePatches": [{"manager": "fipo.dev/pipeline"}]}
    assert refusals({**manifest, "spec": allowed}, RUNTIME) == []
