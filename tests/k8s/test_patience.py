"""What the launcher says about pods that do not come, and when it stops waiting.

Messages are as the controllers word them. Time is the launcher's own: a poll takes three seconds of it.
"""

import pytest

from fipo.errors import LaunchError
from fipo.launch import lifecycle
from fipo.launch.cluster import Cluster
from fipo.launch.trainjob import TrainJob, run_train_job


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch, api):
    api.act_as("fipo-launcher")
    clock = Clock()
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    return clock


@pytest.fixture
def servers():
    return 0


@pytest.fixture
def job(servers):
    fields = {"nodes": 2, "patience_seconds": 21, "rollout_servers": servers}
    return TrainJob("demo", "train", "f", ["python"], runtime="fipo", **fields)


@pytest.fixture
def gives_up(job, api, clock):
    """The message with which the launcher gives a job up to which this happens."""

    def gives_up(happens):
        started = clock.now
        api.script = [happens] + [lambda _: None] * 50 + [lambda _: api.finish(job.name, "Complete")]
        with pytest.raises(LaunchError) as given_up:
            run_train_job(job, Cluster())
        assert api.jobs == {}, "it holds nothing any more"
        assert clock.now - started == 21
        assert "21 s (trainjob.patience_seconds)" in str(given_up.value)
        return str(given_up.value)

    return gives_up


QUOTA = (
    'Error creating: pods "{job}-node-0-1-x7k2p" is forbidden: exceeded quota: fipo, requested: '
    "requests.memory=1500Gi, used: requests.memory=7500Gi, limited: requests.memory=8Ti"
)
TOO_SMALL = QUOTA.replace("limited: requests.memory=8Ti", "limited: requests.memory=2999Gi")
"""For two pods, though not for one."""
RULE = (
    'TrainJob resources reconciliation failed: admission webhook "vjobset.kb.io" denied the request: invalid failure '
    "policy rule name 'not-worth-a-restart'"
)
GROUP = (
    'TrainJob resources reconciliation failed: no matches for kind "PodGroup" in version "scheduling.x-k8s.io/v1alpha1"'
)
DOWN = (
    "TrainJob resources reconciliation failed: Internal error occurred: failed calling webhook "
    '"mjobset.kb.io": failed to call webhook: Post "https://jobset-webhook": dial tcp: connect: connection refused'
)
LEVEL = (
    'Error creating: pods "{job}-node-0-0-x" is forbidden: violates PodSecurity "restricted:latest": '
    "runAsNonRoot != true"
)
ACCOUNT = (
    'Error creating: pods "{job}-node-0-0-x" is forbidden: error looking up service account team/fipo-trainer: '
    'serviceaccount "fipo-trainer" not found'
)


@pytest.mark.parametrize(
    ("kind", "reason", "message", "remedy"),
    [
        ("TrainJob", "TrainJobResourcesCreationFailed", RULE, "refuses what the TrainingRuntime asks for"),
        ("TrainJob", "TrainJobResourcesCreationFailed", GROUP, "coscheduling"),
        ("TrainJob", "TrainJobResourcesCreationFailed", DOWN, "wait until they are ready"),
        ("JobSet", "JobCreationFailed", "jobs.batch is forbidden: exceeded quota: count/jobs.batch=1", "raise it"),
        ("Job", "FailedCreate", TOO_SMALL, "kubectl describe resourcequota --namespace team"),
        ("Job", "FailedCreate", LEVEL, "Pod Security level"),
        ("Job", "FailedCreate", ACCOUNT, "apply the overlay again"),
    ],
)
def test_pods_that_cannot_be_made_are_not_waited_for_for_ever(
    gives_up, api, job, capsys, kind, reason, message, remedy
):
    name, text = job.name if kind in ("TrainJob", "JobSet") else f"{job.name}-node-0", message.format(job=job.name)
    said = gives_up(lambda _: api.warn(kind, name, reason, text, count=7))
    assert "0 of 2 pods made" in said and text in said and remedy in said
    assert capsys.readouterr().out.count(f"Warning: {kind} {name}: {reason} (7 times): {text}") == 1


def test_some_of_the_pods_are_counted(gives_up, api, job):
    """A quota lets in what fits: those pods would hold their nodes, and two such jobs wait for each other."""

    def some(_):
        api.add_pod(job.name, 0)
        api.warn("Job", f"{job.name}-node-0", "FailedCreate", QUOTA.format(job=job.name))

    said = gives_up(some)
    assert "1 of 2 pods made" in said and "used: requests.memory=7500Gi" in said


@pytest.mark.parametrize("servers", [2])
def test_rollout_servers_are_counted_too(gives_up, api, job):
    """The trainer's pods run, and would wait for their servers."""

    def some(_):
        api.add_pod(job.name, 0)
        api.add_pod(job.name, 1)
        api.warn("Job", f"{job.name}-rollout-0", "FailedCreate", QUOTA.format(job=job.name))

    assert "0 of 2 rollout servers made; Job" in gives_up(some)


def test_no_pod_and_no_word_is_not_waited_for_for_ever(gives_up):
    assert "0 of 2 pods made, and no event says why: is Kubeflow Trainer running?" in gives_up(lambda _: None)


NO_CLAIM = '0/3 nodes are available: persistentvolumeclaim "fipo-runs" not found.'
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def waits(reason, message=""):
    """Status of a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "node", "state": state}]}


def unschedulable(message):
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [why]}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (waits("ErrImagePull", 'failed to pull image "fipo:9": not found'), "imagePullSecrets"),
        (waits("ImagePullBackOff", 'Back-off pulling image "fipo:9"'), "imagePullSecrets"),
        (waits("InvalidImageName", "couldn't parse image name"), "imagePullSecrets"),
        (waits("CreateContainerConfigError", 'secret "fipo-rollouts" not found'), "make the secret"),
        (waits("CreateContainerConfigError", "couldn't find key token in Secret team/fipo-rollouts"), "the key in it"),
        (waits("CreateContainerConfigError", 'configmap "fipo" not found'), "config map"),
        (unschedulable(NO_CLAIM), "it makes the volume"),
        (unschedulable(UNBOUND), "storage class"),
        ({"phase": "Pending", "initContainerStatuses": waits("ErrImagePull")["containerStatuses"]}, "imagePullSecrets"),
    ],
)
def test_pods_that_cannot_start_are_not_waited_for_for_ever(gives_up, api, job, status, remedy):
    def happens(_):
        api.add_pod(job.name, 0)
        api.add_pod(job.name, 1, **status)

    assert remedy in gives_up(happens)


def test_a_volume_that_cannot_be_mounted_is_not_waited_for_for_ever(gives_up, api, job):
    message = 'MountVolume.SetUp failed for volume "token" : secret "fipo-rollouts" not found'

    def happens(_):
        api.add_pod(job.name, 0)
        pod = api.add_pod(job.name, 1, **waits("ContainerCreating"))
        api.warn("Pod", pod, "FailedMount", message, count=3)

    said = gives_up(happens)
    assert message in said and "make the secret" in said


@pytest.mark.parametrize(
    "status",
    [
        unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        waits("ContainerCreating"),
        {"phase": "Pending"},
    ],
)
def test_what_may_still_change_is_waited_for(api, job, status):
    """Twice as long as the patience: other jobs end, nodes are added, images are large."""

    def happens(_):
        api.add_pod(job.name, 0)
        pod = api.add_pod(job.name, 1, **status)
        api.warn("Pod", pod, "FailedScheduling", "0/3 nodes are available", count=40)

    api.script = [happens] + [lambda _: None] * 15 + [lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())


SEVERAL = QUOTA.replace("requests.memory=1500Gi", "pods=1,requests.memory=1500Gi")


@pytest.mark.parametrize("quota", [QUOTA, SEVERAL.replace("limited: ", "limited: pods=2,")])
def test_what_others_use_of_a_quota_is_waited_for(api, job, capsys, quota):
    """Trials of a study that do not fit in beside each other come in turn."""
    refused = quota.format(job=job.name)
    api.script = [lambda _: api.warn("Job", f"{job.name}-node-0", "FailedCreate", refused, count=3)]
    api.script += [lambda _: None] * 15 + [lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert refused in capsys.readouterr().out


def test_a_queue_is_waited_for(api, job):
    api.script = [lambda _: api.finish(job.name, "Suspended", "TrainJob is suspended")]
    api.script += [lambda _: None] * 15 + [lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())


def test_patience_begins_anew_when_pods_start(api, job):
    """Pods wait for their image twice, each time less than the patience lasts."""
    pod = f"{job.name}-node-0-0-0"

    def status(**fields):
        return lambda _: api.pods[pod].update(status=fields)

    def begins(_):
        api.add_pod(job.name, 1)
        api.add_pod(job.name, 0, **waits("ErrImagePull"))

    slow = [lambda _: None] * 5
    api.script = [begins, *slow, status(phase="Running"), status(**waits("ErrImagePull")), *slow]
    api.script += [lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())


def test_each_warning_is_said_once_in_its_newest_wording(api, job, capsys):
    owner = f"{job.name}-node-0"

    def creation_fails(attempt):
        text = QUOTA.format(job=job.name).replace("x7k2p", f"abcd{attempt}")
        return lambda _: api.warn("Job", owner, "FailedCreate", text, at=f"12:00:0{attempt}")

    def both(_):
        creation_fails(1)(_)
        creation_fails(2)(_)

    ends = lambda _: api.finish(job.name, "Complete")  # noqa: E731
    api.script = [
        both,
        creation_fails(3),
        lambda _: api.warn("Job", owner, "FailedCreate", "another"),
        lambda _: None,
        ends,
    ]
    run_train_job(job, Cluster())
    said = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
    assert [line.partition("FailedCreate: ")[2][:20] for line in said] == ["Error creating: pods", "another"]
    assert "abcd2" in said[0]


def test_events_of_others_and_of_earlier_jobs_of_the_name_are_left_out(api, job, capsys):
    def happens(_):
        api.add_pod(job.name, 0)
        api.add_pod(job.name, 1)
        api.warn("Job", f"{job.name}-node-0", "FailedCreate", "yesterday's", at="11:59:59")
        api.warn("Pod", "somebody-else", "FailedMount", "theirs")
        api.events["normal"] = {**next(iter(api.events.values())), "type": "Normal", "reason": "Pulled"}

    api.script = [happens, lambda _: None, lambda _: api.finish(job.name, "Complete")]
    run_train_job(job, Cluster())
    assert "Warning" not in capsys.readouterr().out
