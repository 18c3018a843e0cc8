"""Tasks of the pipeline where there are no Kubeflow Pipelines: each is the pod that those make, without their helpers.

What a task says of itself (user, environment, volume, resources) comes from the compiled package, its command too; only
what Kubeflow's launcher hands to it and takes from it goes another way.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from fipo.launch.cluster import RUN_LABEL
from fipo_kfp.pipelines.package import COMPILED
from tests import executor
from tests.apiserver import pods
from tests.apiserver.jobs import TASK
from tests.cluster.target import ClusterError, Target, eventually

PACKAGE = "fipo_training"
HANDED_OVER = {"env": TASK["env"], "volumes": TASK["volumes"], "volumeMounts": TASK["volume_mounts"]}
"""What Kubeflow's driver fills in for `dsl.TaskConfig`."""
SHOWN = "outputs: "
"""Before the last line of a task's log, its outputs as JSON."""
START = """
setsid "$@" & task=$!
trap 'kill -TERM -$task' TERM
while kill -0 $task 2>/dev/null; do wait $task; code=$?; done
test $code != 0 || { printf "\\n%s" "$SHOWN"; cat /tmp/task/*.json; }
exit $code
"""
"""A request to stop reaches all of a task's processes, as Argo's executor passes it on."""
STEPS = ("prepare", "doctor", "sft", "train", "evaluate", "gate", "register", "report")


@dataclass
class Tasks:
    """Of one run. Their owner is a workflow that does nothing, where the cluster knows such."""

    target: Target
    name: str
    """Of the run."""
    settings: Sequence[str]
    overrides: list[str] = field(default_factory=list)
    """From `configure`, for all others."""
    flow: dict[str, Any] | None = None

    def begin(self) -> None:
        """Make the workflow, and run `configure`."""
        if self.target.serves("workflows.argoproj.io"):
            spec = {"entrypoint": "main", "suspend": True, "templates": [{"name": "main", "suspend": {}}]}
            metadata = {"name": self.name, "labels": {RUN_LABEL: self.name}}
            flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata}
            self.flow = json.loads(self.target.create({**flow, "spec": spec}))
        self.configure()

    def configure(self) -> str:
        """The first task; returns what it says is left to do."""
        asked = {"recipe_changes": list(self.settings), "run_name": self.name, "run_id": self.name}
        outputs = self.run("configure", goal="report", **asked)
        self.overrides = outputs["overrides"]
        return str(outputs["todo"])

    def terminate(self) -> None:
        """As Kubeflow terminates a run."""
        patch = json.dumps({"spec": {"activeDeadlineSeconds": 0}})
        self.target.kubectl("patch", "workflows.argoproj.io", self.name, "--type=merge", "--patch", patch)

    def run(self, task: str, **given: Any) -> dict[str, Any]:
        """A task to its good end; returns its output parameters."""
        pod = self.start(task, **given)
        if (phase := self.wait(pod)) != "Succeeded":
            raise ClusterError(f"{task} ended as {phase}:\n{self.log(pod)[-4000:]}")
        shown = self.log(pod).rpartition(SHOWN)[2]
        outputs: dict[str, Any] = json.loads(shown).get("parameterValues", {})
        return outputs

    def start(self, task: str, **given: Any) -> str:
        """Name of the task's pod."""
        package, platform = yaml.safe_load_all((COMPILED / f"{PACKAGE}.yaml").read_text())
        own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        made = pods.task_pod(
            "", package["deploymentSpec"]["executors"][f"exec-{task}"], own[f"exec-{task}"], self.target.account()
        )
        (main,) = [one for one in made["spec"]["containers"] if one["name"] == "main"]
        program = executor.command(
            task, "demo", [], "/tmp/task", PACKAGE, overrides=self.overrides, task_config=HANDED_OVER, **given
        )
        main["command"] = ["sh", "-c", START, "sh", *program]
        name = {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        main["env"] += [name, {"name": "SHOWN", "value": SHOWN}]
        made["spec"] |= {"initContainers": [], "containers": [main]}
        made["metadata"] = {"generateName": f"{self.name}-{task}-", "labels": {"fipo-test": self.name}}
        if self.flow:
            about = self.flow["metadata"]
            owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": self.name, "uid": about["uid"]}
            made["metadata"]["ownerReferences"] = [owner]
        return str(json.loads(self.target.create(made))["metadata"]["name"])

    def wait(self, pod: str) -> str:
        """The phase in which it ends; `Gone` for one that was deleted."""
        state = {"phase": ""}

        def ended() -> bool:
            state["phase"] = self.target.phase(pod)
            return state["phase"] in ("Succeeded", "Failed", "Gone")

        eventually(ended, self.target.limit_seconds, f"pod {pod} did not end", lambda: self.log(pod)[-1000:])
        return state["phase"]

    def log(self, pod: str) -> str:
        """What it has printed so far."""
        return self.target.kubectl("logs", pod, check=False)

    def wait_for(self, pod: str, pattern: str) -> str:
        """What the pattern's group found in the log of a task, as soon as it does; an end without it is an error."""
        found: list[str] = []

        def printed() -> bool:
            log, phase = self.log(pod), self.target.phase(pod)
            found.extend(re.findall(pattern, log))
            if not found and phase not in ("Pending", "Running"):
                raise ClusterError(f"pod {pod} ended as {phase} without {pattern!r}:\n{log[-3000:]}")
            return bool(found)

        eventually(printed, self.target.limit_seconds, f"pod {pod} did not say {pattern!r}")
        return found[-1]

    def jobs(self) -> list[dict[str, Any]]:
        """The TrainJobs of the run."""
        found = self.target.objects("trainjobs.trainer.kubeflow.org", "app.kubernetes.io/managed-by=fipo")
        return [job for job in found if job["metadata"]["name"].startswith(f"fipo-{self.name}")]

    def node_pods(self) -> list[dict[str, Any]]:
        """Running pods of the run's TrainJobs, by name."""
        found = [pod for job in self.jobs() for pod in self.target.objects("pods", _of(job["metadata"]["name"]))]
        living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        running = [pod for pod in living if pod["status"].get("phase") == "Running"]
        return sorted(running, key=lambda pod: pod["metadata"]["name"])

    def end(self) -> None:
        """Delete the run's pods, jobs and workflow."""
        self.target.kubectl("delete", "pods", "--selector", f"fipo-test={self.name}", "--wait=false")
        for job in self.jobs():
            self.target.kubectl("delete", "trainjob", job["metadata"]["name"], "--ignore-not-found", "--wait=false")
        if self.flow:
            self.target.kubectl("delete", "workflows.argoproj.io", self.name, "--ignore-not-found", "--wait=false")

    def left(self) -> list[str]:
        """What is still there of its jobs."""
        kinds = "trainjobs,jobsets,jobs,pods,services"
        names = self.target.kubectl("get", kinds, "--output", "name", check=False).split()
        return [name for name in names if f"fipo-{self.name}" in name]


def _of(job: str) -> str:
    return f"jobset.sigs.k8s.io/jobset-name={job}"
