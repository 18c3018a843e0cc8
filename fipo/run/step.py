"""The steps of a run, in one table: what each reads, what it depends on, and what does the work."""

from __future__ import annotations

from dataclasses import dataclass

from fipo.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    name: str
    help: str
    sections: tuple[str, ...]
    """Sections of the settings that it reads; of these, the settings that say so change no result (`config.Role`)."""
    reads: tuple[str, ...] = ()
    """Outputs of earlier steps, `step/output`, or a part of one, `step/output:part`; a step without outputs stands for
    itself."""
    job: str = ""
    """Module that torchrun starts on all devices; empty for a step that runs in its own process."""
    work: str = ""
    """What does the work of the others: `module:function`, called with the attempt (`fipo.run.workspace.Attempt`)."""
    check: str = ""
    """`module:function`, called with the settings, the step's name in a list, and `download=True`, before it begins:
    refuses what would end it later."""
    then: str = ""
    """`module:function`, called with the step's workspace and its result once that is there, computed now or found."""
    measures: bool = False
    """Whether it asks the benchmarks, so that settings of measuring are its own."""
    grades: bool = False
    """Whether it judges their answers or keeps their problems, so that their graders are its own."""

    @property
    def upstream(self) -> tuple[str, ...]:
        """The steps that it builds on, in order."""
        return tuple(dict.fromkeys(entry.partition("/")[0] for entry in self.reads))


def _table(*steps: Step) -> dict[str, Step]:
    return {step.name: step for step in steps}


STEPS = _table(
    Step(
        "prepare",
        "read, check, deduplicate, decontaminate and split the problems",
        sections=("data", "model"),
        work="fipo.data.step:prepare_run",
        check="fipo.check:require",
        grades=True,
    ),
    Step(
        "sft",
        "warm the model up on demonstrations",
        sections=("run", "model", "data", "sft", "distributed"),
        reads=("prepare/dataset:demonstrations",),
        job="fipo.training.sft",
        check="fipo.check:require",
    ),
    Step(
        "train",
        "train it with FIPO",
        sections=("run", "model", "data", "train", "algorithm", "rollout", "reward", "distributed"),
        reads=("prepare/dataset:problems", "sft/model"),
        job="fipo.training.rl",
        check="fipo.check:require",
    ),
    Step(
        "evaluate",
        "answer the benchmarks with the warmed-up and the trained model",
        sections=("run", "data", "evaluation", "rollout", "reward", "distributed"),
        reads=("prepare/dataset", "sft/model", "train/model"),
        job="fipo.training.evaluate",
        measures=True,
        grades=True,
    ),
    Step(
        "gate",
        "decide whether the trained model may become the champion",
        sections=("gate", "registry", "tracking"),
        reads=("train/model", "evaluate/results"),
        work="fipo.release.promotion:judge",
    ),
    Step(
        "register",
        "register it in MLflow, with its provenance",
        sections=("registry", "tracking"),
        reads=("prepare/dataset", "train/model", "evaluate/results", "gate/decision"),
        work="fipo.release.promotion:register_model",
    ),
    Step(
        "report",
        "write the report of the run",
        sections=("run",),
        reads=(
            *("prepare/dataset", "sft/model", "train/model", "train/records"),
            *("evaluate/results", "gate/decision", "register"),
        ),
        work="fipo.report.run:write_report",
        then="fipo.report.run:bring_here",
    ),
    Step(
        "score",
        "answer the benchmarks with a model that is not trained here",
        sections=("run", "data", "evaluation", "rollout", "reward", "distributed"),
        reads=("prepare/dataset", "sft/model"),
        job="fipo.training.score",
        measures=True,
        grades=True,
    ),
)
"""By name, in order."""


def step_named(name: str) -> Step:
    """The step of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in STEPS:
        raise ConfigError(f"step {name!r}: must be one of {', '.join(STEPS)}")
    return STEPS[name]


def steps_to(goal: str) -> tuple[str, ...]:
    """The step `goal` and all that it builds on, in order."""
    wanted = {goal}
    for name in reversed(STEPS):
        if name in wanted:
            wanted |= set(STEPS[name].upstream)
    return tuple(name for name in STEPS if name in wanted)
