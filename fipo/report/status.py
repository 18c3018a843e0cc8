"""`fipo status`: what a run has done so far, read from its store and, as far as it answers, from MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fipo.config import Config
from fipo.errors import ConfigError, DataError, TrackingError
from fipo.records import Evaluated, Registration
from fipo.report import wording
from fipo.run.found import FoundRun
from fipo.run.identity import fits
from fipo.run.result import StepResult
from fipo.run.run import Run
from fipo.run.step import STEPS
from fipo.run.workspace import Workspace
from fipo.tracking.overview import RunState, run_states

FINISHED, OUTDATED, ABSENT = "finished", "outdated", "absent"
_PROGRESS = {"RUNNING": "running", "FAILED": "failed", "KILLED": "stopped"}


@dataclass(frozen=True, slots=True)
class StepState:
    """One step of a run."""

    name: str
    state: str
    """`finished`; `outdated`, computed with other settings or inputs than the run has now; `running`, `failed` or
    `stopped`, says MLflow; `absent`."""
    fingerprint: str
    """Of the result or of the step in progress; empty where its inputs are absent."""
    result: StepResult | None
    page: str
    """In MLflow; empty without one."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A run at a glance."""

    config: Config
    key: str
    steps: Sequence[StepState]
    parent: RunState | None
    """The pipeline's run in MLflow."""
    mlflow: str
    """Why MLflow could not be asked, and what to do; empty where it answered."""
    aliases: Sequence[str]
    """Of the registered version now."""

    def result(self, step: str) -> StepResult | None:
        """The newest result of a step."""
        return next((one.result for one in self.steps if one.name == step), None)


def status_of(found: FoundRun) -> Overview:
    """Look at every step of a run.

    Raises:
        StorageError: its store cannot be read.
    """
    workspaces = {step: _workspace(found.recorded, step) for step in STEPS}
    keys = {step: workspace.run_key for step, workspace in workspaces.items() if workspace}
    states, uri, complaint = _ask_mlflow(found, [found.key, *keys.values()])
    newest, finished = found.run.results.all_newest(), dict[str, StepResult]()
    steps = []
    for step, workspace in workspaces.items():
        result, state = newest.get(step), states.get(keys.get(step, ""))
        if result or step != "score":  # which is for models that are not trained here
            steps.append(_step(step, result, _wanted(found.recorded.config, workspace, result, finished), state))
            if result and steps[-1].state == FINISHED:
                finished[step] = result
    registered = newest.get("register")
    aliases = _aliases(uri, registered) if uri and registered else ()
    return Overview(found.run.config, found.key, steps, states.get(found.key), complaint, aliases)


def print_status(overview: Overview) -> None:
    """Show it as text: a few lines of facts, a line for each step, and where its outputs are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for name, value in _facts(overview):
        console.print(Text(f"{name:<9} {value}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("step", "state", "finished (UTC)", "took", "fingerprint"):
        table.add_column(column, header_style="dim", justify="right" if column == "took" else "left")
    for step in overview.steps:
        done = step.result
        when = done.finished.removesuffix("+00:00").replace("T", " ") if done else ""
        took = wording.duration(done.seconds) if done else ""
        table.add_row(step.name, step.state, when, took, step.fingerprint[:12])
    console.print("", table)
    for step in overview.steps:
        lines = [("MLflow", step.page)] if step.page else []
        for name, output in step.result.outputs.items() if step.result else ():
            lines += [(name, output.uri), ("", f"SHA-256 {output.sha256}")]
        if lines:
            console.print(f"\n{step.name}")
        for name, value in lines:
            console.print(Text(f"  {name:<9} {value}"), soft_wrap=True)


def _facts(overview: Overview) -> list[tuple[str, str]]:
    config, parent = overview.config, overview.parent
    kubeflow = (parent and parent.pipeline_run) or next(
        (one.result.pipeline_run for one in reversed(overview.steps) if one.result and one.result.pipeline_run), ""
    )
    facts = [
        ("run", f"{config.run.name}" + (f", recipe {config.run.recipe}" if config.run.recipe else "")),
        ("settings", overview.key.rpartition("/")[2]),
        ("store", f"{config.storage_uri}/{config.run.name}"),
        ("MLflow", overview.mlflow or (f"{parent.status} {parent.page}" if parent else "has no run of these settings")),
        ("Kubeflow", config.pipeline_page(kubeflow) or kubeflow),
        ("model", _model(overview)),
        ("scores", _scores(overview)),
    ]
    return [(name, value.strip()) for name, value in facts if value]


def _model(overview: Overview) -> str:
    registered = overview.result("register")
    if not registered:
        return ""
    model = registered.read(Registration)
    return f"{model.name} version {model.version}" + "".join(f", {alias}" for alias in overview.aliases)


def _scores(overview: Overview) -> str:
    """`running-sums: avg@8 26.1% to 98.0%, mean response 7.4 tokens to 10.2 tokens`."""
    evaluated, benchmark = overview.result("evaluate"), overview.config.gate_benchmark
    if not evaluated:
        return ""
    scores = evaluated.read(Evaluated)
    if benchmark not in scores.warmup or benchmark not in scores.trained:
        return ""
    before, after = scores.warmup[benchmark], scores.trained[benchmark]
    right = " to ".join(wording.percent(summary.avg_at_k.value) for summary in (before, after))
    lengths = " to ".join(wording.tokens(summary.mean_response_tokens) for summary in (before, after))
    return f"{benchmark}: avg@{after.k} {right}, mean response {lengths}"


def _step(name: str, result: StepResult | None, fingerprint: str, state: RunState | None) -> StepState:
    page = state.page if state else result.mlflow_url if result else ""
    if result and result.fingerprint == fingerprint:
        return StepState(name, FINISHED, fingerprint, result, page)
    if state and state.status in _PROGRESS:
        return StepState(name, _PROGRESS[state.status], fingerprint, result, page)
    if result:
        return StepState(name, OUTDATED, result.fingerprint, result, result.mlflow_url)
    return StepState(name, ABSENT, fingerprint, None, page)


def _workspace(run: Run, step: str) -> Workspace | None:
    try:
        return run.step(step)
    except (ConfigError, DataError):  # a step before it has not finished, or what it reads is not on this machine
        return None


def _wanted(
    config: Config, workspace: Workspace | None, result: StepResult | None, finished: Mapping[str, StepResult]
) -> str:
    """Fingerprint that the run's settings ask for, as far as it can be known here; else empty.

    A result of a step that is outdated is outdated, whatever its own settings are: `finished` are those before it
    that are not.
    """
    if workspace:
        return workspace.fingerprint
    return result.fingerprint if result and fits(result, config, finished) else ""


def _ask_mlflow(found: FoundRun, keys: Sequence[str]) -> tuple[Mapping[str, RunState], str, str]:
    """What MLflow says of these runs, where it answered, or why it did not."""
    config = found.run.config
    addresses = dict.fromkeys(uri for uri in (config.tracking_uri, config.links.mlflow) if uri)
    complaints = []
    for uri in addresses:
        try:
            return run_states(uri, keys, public_uri=config.links.mlflow), uri, ""
        except TrackingError as error:
            complaints.append(str(error).partition("\n")[0])
    remedy = "name an address that this machine reaches: --set tracking.uri=http://localhost:5000"
    return {}, "", f"{'; '.join(complaints)[:300]}. What is below is from the store. To ask MLflow too, {remedy}"


def _aliases(tracking_uri: str, registered: StepResult) -> Sequence[str]:
    from fipo.errors import RegistryError
    from fipo.release.registry import find

    model = registered.read(Registration)
    try:
        return sorted(find(tracking_uri, f"{model.name}/{model.version}").aliases)
    except RegistryError:
        return ()
