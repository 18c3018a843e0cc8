"""Run a pipeline on this machine: every task a subprocess, the definition that a cluster runs."""

import copy
import os
import re
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
from kfp import dsl, local
from kfp.dsl.graph_component import GraphComponent

from fipo.config import Config, load_config
from fipo.errors import ConfigError, FipoError, Interrupted
from fipo.files import private_folder
from fipo.report.display import live_display
from fipo.run.run import Run
from fipo_kfp.components.door import EXIT_CODE_FILE
from fipo_kfp.components.form import Form, now
from fipo_kfp.pipelines.console import quiet_kubeflow
from fipo_kfp.pipelines.package import PIPELINES, arguments

GOALS = {"fipo_evaluation": "score"}
"""The last step of a pipeline, where it is not the report."""


class StepFailed(FipoError):
    """A task of the pipeline ended with an error, which it has printed, and with this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(pipeline: str, parameters: Mapping[str, str], overrides: list[str]) -> Config:
    """Run the pipeline to its end; finished steps are reused, and an interrupted one continues.

    Args:
        pipeline: name in `PIPELINES`.
        parameters: its parameters as texts, `recipe` among them.
        overrides: settings that replace the recipe's.

    Raises:
        ConfigError: the recipe, a parameter or an override is refused.
        StepFailed: a task failed; the message names it.
        Interrupted: asked to stop, and every task has stopped.
    """
    given, created = arguments(pipeline, parameters, overrides), now()
    config = _settings(given, created)
    folder = (config.run_directory / "kfp").absolute()
    try:
        private_folder(folder)  # Kubeflow's executor would open it to all
    except OSError as error:
        raise ConfigError(f"run.directory: {error.filename}: {error.strerror}; name another folder") from None
    with tempfile.TemporaryDirectory(prefix="fipo-") as scratch, _environment(scratch), _stoppable() as stop:
        for_here = _for_one_machine(PIPELINES[pipeline], created)
        # kfp deletes the workspace after each run: it must be a folder of its own.
        runner = local.SubprocessRunner(use_venv=False)
        local.init(runner, pipeline_root=str(folder), workspace_root=str(Path(scratch, "workspace")))
        try:
            with live_display(config.run_directory, GOALS.get(pipeline, "report")), quiet_kubeflow():
                for_here(**given)
        except RuntimeError as error:
            if stop.requested:
                Run(config).close("CANCELED")  # a task that stopped counts as failed with Kubeflow
                raise Interrupted("stopped; the same command continues where it was") from None
            message = f"step {_failed_step(error)!r} failed; its message is above. {folder}"
            raise StepFailed(message, _exit_code()) from None
    return config


def _settings(given: Mapping[str, Any], created: str) -> Config:
    """Those that the run will have, before anything is started."""
    known = {field.name for field in fields(Form)}
    form = Form(**{name: value for name, value in given.items() if name in known}, created=created)
    return load_config(form.recipe, form.overrides())


def _for_one_machine(pipeline: GraphComponent, created: str) -> GraphComponent:
    """A copy without what kfp.local does otherwise than a cluster, or what one machine does not need.

    Loops run their bodies in turn: two trainings at once would halve the machine. Nothing is repeated: here a task is
    not lost with its node, it has failed. Nothing is skipped: a finished step takes a second, and kfp.local evaluates
    conditions as Python. And it does not know when the run was made.
    """
    pipeline = copy.deepcopy(pipeline)
    spec = pipeline.pipeline_spec
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values())):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
            task.trigger_policy.ClearField("condition")
            if task.WhichOneof("iterator"):
                task.iterator_policy.parallelism_limit = 1
            for source in task.inputs.parameters.values():
                if source.runtime_value.constant.string_value == dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER:
                    source.runtime_value.constant.string_value = created
    return pipeline


def _failed_step(error: RuntimeError) -> str:
    """The innermost task named in kfp's `Inner task failed: 'train' inside 'exit-handler-1'.`, which it colours."""
    plain = re.sub(r"\x1b\[\d+m", "", str(error))
    found = re.search(r"Inner task failed: '([^']+)'", plain)
    if not found:
        raise error
    return found.group(1)


def _exit_code() -> int:
    """Of the task that failed first; 1 where it could not say."""
    with suppress(OSError, ValueError):
        return int(Path(os.environ[EXIT_CODE_FILE]).read_text(encoding="utf-8"))
    return 1


class _Stop:
    """Passes a request to stop on to every task, so that each saves its state and ends."""

    requested = False

    def __call__(self, signal_number: int, frame: object) -> None:
        """SIGTERM first; whoever asks twice wants it now. A terminal that has gone takes no more lines."""
        if signal_number == signal.SIGHUP:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
        how = signal.SIGKILL if self.requested else signal.SIGTERM
        self.requested = True
        for process in psutil.Process().children(recursive=True):
            if process.name() != "sh":  # kfp's shell only waits for its Python
                process.send_signal(how)


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    stop, numbers = _Stop(), [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it: the run outlives the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(scratch: str) -> Iterator[None]:
    """Tasks show each line at once, and leave their temporary files where they are removed."""
    settings = {"PYTHONUNBUFFERED": "1", "TMPDIR": scratch, EXIT_CODE_FILE: str(Path(scratch, "exit-code"))}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with warnings.catch_warnings():
            # kfp doubts an image that is not called python, and reports the resources that only a cluster gives.
            warnings.filterwarnings("ignore", module="kfp.local")
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
