"""A tiny run to strike: its steps in forks of a process that has imported everything, put back to any point at once."""

import contextlib
import ctypes
import json
import os
import re
import runpy
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from fipo.config import Config, load_config
from fipo.errors import FipoError
from fipo.redaction import guard_output
from fipo.run.run import Run
from fipo.run.step import STEPS, steps_to
from tests.chaos.attacks import Arrange, count_events

RECIPE = Path(__file__).parents[1] / "pipelines" / "tiny.yaml"
ORDER = steps_to("report")
SETTINGS = ("train.checkpoint_every=1", "sft.steps=20", "evaluation.samples=1", "distributed.timeout_seconds=60")
DEADLINE_SECONDS = 1200.0
TIMED = {"report/report", "train/records"}
"""Outputs that hold times: no two runs have the same."""
_PR_SET_PDEATHSIG = 1


@dataclass
class Outcome:
    """How a command ended."""

    codes: list[int]
    """Exit codes of the steps that ran; below 0 a signal."""
    output: str

    @property
    def well(self) -> bool:
        """Whether every step ended with 0."""
        return not any(self.codes)

    @property
    def told(self) -> bool:
        """Whether it failed, if it did, with a sentence and without a traceback."""
        return "Traceback" not in self.output


@dataclass
class Command:
    """Steps in a session of their own: a parent, and a process for each step, as `fipo run` has them."""

    pid: int
    log: Path
    steps: Sequence[str] = ()

    def wait(self, seconds: float = DEADLINE_SECONDS) -> Outcome:
        """Its end, and that of all that it started."""
        deadline = time.monotonic() + seconds
        status = None
        while status is None:
            found, ended = os.waitpid(self.pid, os.WNOHANG)
            if found:
                status = ended
            elif time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                status = os.waitpid(self.pid, 0)[1]
                with self.log.open("a") as file:
                    file.write(f"\nTraceback: the command was alive after {seconds:g} s\n")
            else:
                time.sleep(0.02)
        output = self.log.read_text(errors="replace")
        codes = [int(code) for code in re.findall(r"^@ended \S+ (-?\d+)$", output, re.MULTILINE)]
        return Outcome([*codes, os.waitstatus_to_exitcode(status)], output)

    def strays(self, patience_seconds: float = 60.0) -> list[str]:
        """Processes of its session that are alive when all should have ended."""
        deadline = time.monotonic() + patience_seconds
        while (alive := _session(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [" ".join(one.cmdline())[:200] for one in alive]


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Bench:
    """A run in `folder/runs`, and what it was like after each step."""

    folder: Path
    settings: tuple[str, ...] = ()
    expected: dict[str, object] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    """How many points of `EVENTS` each step passes."""
    _count: int = 0

    @property
    def runs(self) -> Path:
        """Where the run works: always the same path, for MLflow notes it."""
        return self.folder / "runs"

    def config(self, *more: str) -> Config:
        """Its settings."""
        return load_config(RECIPE, [f"run.directory={self.runs}", *SETTINGS, *self.settings, *more])

    def prepare(self) -> None:
        """Run every step once, undisturbed, and keep what each leaves."""
        self._keep("nothing")
        for step in ORDER:
            counted = self.folder / "events"
            outcome = self.start(step, arrange=partial(count_events, counted)).wait()
            if not outcome.well:
                raise AssertionError(outcome.output)
            self.events[step] = int(counted.read_text())
            self._keep(step)
        self.expected = self.summary()

    def kept(self, after: str) -> Path:
        """What was there after this step; `nothing` is before the first."""
        return self.folder / "kept" / after

    def restore(self, after: str) -> None:
        """As it was after this step."""
        shutil.rmtree(self.runs, ignore_errors=True)
        if self.runs.exists():  # something is mounted there
            shutil.copytree(self.kept(after), self.runs, dirs_exist_ok=True)
        else:
            shutil.copytree(self.kept(after), self.runs)

    def with_tables(self) -> None:
        """Let MLflow's database be there with its tables, where no step has made it yet."""
        if not (database := self.runs / "mlflow.db").exists():
            shutil.copy(self.folder / "tables.db", database)

    def start(
        self, *steps: str, arrange: Arrange = lambda: None, more: Sequence[str] = (), fresh: bool = False
    ) -> Command:
        """Begin steps (all, if none is named) in a session of their own."""
        self._count += 1
        log = self.folder / "logs" / f"{self._count:04}.log"
        log.parent.mkdir(exist_ok=True)
        config, steps = self.config(*more), steps or ORDER
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return Command(pid, log, steps)
        try:
            os.setsid()
            _redirect(log)
            os._exit(_parent(config, steps, arrange, fresh=fresh))
        finally:
            os._exit(70)

    def summary(self, *more: str) -> dict[str, object]:
        """What came of it, times aside: digests of what each step left, and what was measured."""
        results = Run(self.config(*more)).results.all_newest()
        left = {
            f"{step}/{name}": output.sha256
            for step, result in results.items()
            for name, output in result.outputs.items()
        }
        scores = {
            f"{step}:{name}": value
            for step, result in results.items()
            for name, value in result.metrics.items()
            if name.startswith(("eval/", "data/"))
        }
        return {name: value for name, value in (left | scores).items() if name not in TIMED} | {
            "steps": sorted(results)
        }

    def faults(self, *more: str, whole: bool = True, refused: bool = False) -> list[str]:
        """What is not as it must be after a command that ended well: see docs/reliability.md.

        Args:
            more: further settings.
            whole: whether it went through all steps.
            refused: whether one before it was refused for an input, which was made anew: that attempt stays, as FAILED.
        """
        found, now = [], self.summary(*more)
        for name, value in self.expected.items():
            if (whole or (name in now and name != "steps")) and now.get(name) != value:
                found.append(f"{name}: {now.get(name)} instead of {value}")
        found += [f"temporary file {path}" for path in self._temporary()]
        found += [f"claim {path} is held" for path in self.runs.glob("objects/*/*/claims/*/*.json") if _is_held(path)]
        made_anew = Run(self.config(*more)).results.all_newest() if refused else {}
        newest = {f"{step}/{result.fingerprint[:12]}" for step, result in made_anew.items()}
        return found + self._in_mlflow(newest, whole=whole)

    def _in_mlflow(self, newest: set[str], *, whole: bool) -> list[str]:
        """One run a step, all ended; one version of the model. Where attempts are `newest`, others may have failed."""
        with contextlib.closing(sqlite3.connect(self.runs / "mlflow.db")) as database:
            runs = database.execute(
                "select t.value, count(*), group_concat(r.status) from runs r join tags t on t.run_uuid = r.run_uuid "
                "where t.key = 'fipo.run_key' and r.lifecycle_stage = 'active' group by t.value"
            ).fetchall()
            versions = database.execute("select count(*) from model_versions").fetchone()[0]
        found = [f"{number} MLflow runs of {key}" for key, number, _ in runs if number != 1]
        steps = [(key, status) for key, _, status in runs if key.count("/") == 2]
        if newest:
            steps = [(key, status) for key, status in steps if status != "FAILED" or key.partition("/")[2] in newest]
        found += [f"MLflow run of {key} is {status}" for key, status in steps if status != "FINISHED"]
        if whole and (len(steps) != len(ORDER) or versions != 1):
            found.append(f"{len(steps)} steps in MLflow, {versions} versions of the model")
        return found

    def _temporary(self) -> Iterator[Path]:
        for path in self.runs.rglob("*"):
            if path.name.startswith(".tmp-") or re.fullmatch(r"\..+\.[0-9a-f]{8}-\d+", path.name):
                yield path

    def _keep(self, step: str) -> None:
        self.runs.mkdir(exist_ok=True)
        shutil.copytree(self.runs, self.kept(step))


def _is_held(claim: Path) -> bool:
    """A damaged one is nobody's: who wants the step waits a minute for a sign of life, and goes on."""
    try:
        return bool(json.loads(claim.read_bytes())["token"])
    except (ValueError, LookupError, TypeError):
        return False


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 - for the process's life
    guard_output()


def _parent(config: Config, steps: Sequence[str], arrange: Arrange, *, fresh: bool) -> int:
    """Run the steps in order, each in a process; the exit code of the first that fails."""
    here = os.getpid()
    for step in steps:
        pid = os.fork()
        if not pid:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != here:
                os._exit(70)
            code = 70
            try:
                arrange()
                code = _step(config, step, fresh=fresh)
            except BaseException:  # what a process prints that ends by it
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            print(f"@ended {step} {code}", flush=True)
            return code if code > 0 else 1
    return 0


def _step(config: Config, step: str, *, fresh: bool) -> int:
    """One step as a command does it, a job's rank in this very process; its exit code."""
    try:
        run = Run(config)
        job = STEPS[step].job
        if fresh:
            run.step(step).discard()
        if job and not run.step(step).finished():
            settings = run.write_settings()
            run.record_settings()
            sys.argv = [job, "--config", str(settings)]
            os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
            runpy.run_module(job, run_name="__main__")
        run.step(step).run()
    except FipoError as error:
        print(f"fipo: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
