"""What a study compares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from fipo.config import Config, Name, Section, load_config, make_section
from fipo.config.files import read_yaml
from fipo.errors import ConfigError


class Task(Section):
    """Something to learn, at one difficulty."""

    recipe: str
    """Name of a shipped recipe, or a file."""
    settings: tuple[str, ...] = ()
    """`key.path=value` over the recipe, for all arms."""


class Question(Section):
    """Arms that answer one question: a table and a figure of the report."""

    title: str
    arms: tuple[Name, ...] = Field(min_length=1)
    """Beside the baseline."""


class Outcome(Section):
    """What decides, said before anything is seen."""

    score: Literal["avg_at_k", "cons_at_k", "pass_at_k", "mean_response_tokens", "learning"]
    """Of the trained model on the benchmark; `learning` is the accuracy of all that training samples."""
    smallest_effect: float = Field(gt=0)
    """The smallest difference worth finding, 0.01 being one point of accuracy: arms closer than that are equivalent."""
    power: float = Field(default=0.8, gt=0, lt=1)
    """Share of studies that shall find it."""
    significance: float = Field(default=0.05, gt=0, lt=1)
    """Share of studies that may find a difference where there is none, all comparisons together."""


class Study(Section):
    """Tasks x arms x seeds; every arm of a seed starts from the same warmed-up model."""

    name: Name
    tasks: dict[Name, Task] = Field(min_length=1)
    settings: tuple[str, ...] = ()
    """For all tasks and arms."""
    arms: dict[Name, tuple[str, ...]] = Field(min_length=2)
    """By name, the settings that make the arm."""
    baseline: Name
    """The arm that the others are compared with, seed by seed."""
    seeds: tuple[NonNegativeInt, ...] = Field(min_length=2)
    outcome: Outcome | None = None
    """Without one, intervals are shown and nothing is concluded."""
    questions: dict[Name, Question] = Field(default_factory=dict)
    """Which arms are shown together (default: all)."""
    roles: dict[Name, str] = Field(default_factory=dict)
    """Kinds of tokens, whose influence weights are told apart: regular expressions (`fipo.study.roles`)."""

    @field_validator("roles")
    @classmethod
    def _are_patterns(cls, roles: dict[str, str]) -> dict[str, str]:
        for name, pattern in roles.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: must be a regular expression; {pattern!r} is none: {error}") from None
        return roles

    @model_validator(mode="after")
    def _arms_exist(self) -> Self:
        named = {self.baseline, *(arm for question in self.questions.values() for arm in question.arms)}
        if unknown := sorted(named - self.arms.keys()):
            raise ValueError(f"baseline, questions: must name arms; got {', '.join(unknown)}")
        return self

    @property
    def asked(self) -> Mapping[str, Question]:
        """The questions; of a study that has none, one about all arms."""
        others = tuple(arm for arm in self.arms if arm != self.baseline)
        return self.questions or {"arms": Question(title="All arms", arms=others)}

    @property
    def comparisons(self) -> int:
        """How often an arm is held against the baseline."""
        return len(self.tasks) * (len(self.arms) - 1)

    def trials(self) -> Iterator[Trial]:
        """Seed by seed, so that whatever is finished compares all arms."""
        for seed in self.seeds:
            for task in self.tasks:
                for arm in self.arms:
                    yield Trial(self, task, arm, seed)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run of a study."""

    study: Study
    task: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its runs, in MLflow and in the object store."""
        return f"{self.warmup}-{self.arm}"

    @property
    def warmup(self) -> str:
        """Name of the run that prepares the data and warms the model up, shared by the arms."""
        return f"{self.study.name}-{self.task}-s{self.seed}"

    def overrides(self, directory: Path, *, warmup: bool = False) -> list[str]:
        """`--set` of the trial, or of its warm-up."""
        return [
            f"run.directory={directory}",
            f"run.name={self.warmup if warmup else self.name}",
            *self.settings(warmup=warmup),
        ]

    def settings(self, *, warmup: bool = False) -> list[str]:
        """Of the trial, or of its warm-up, wherever and under whatever name it runs."""
        return [
            f"run.seed={self.seed}",
            f"tracking.experiment_prefix={self.study.name}",
            *self.study.settings,
            *self.study.tasks[self.task].settings,
            *(() if warmup else self.study.arms[self.arm]),
        ]

    def config(self, directory: Path, *, warmup: bool = False) -> Config:
        """Its settings.

        Raises:
            ConfigError: a setting of the study is refused.
        """
        return load_config(self.study.tasks[self.task].recipe, self.overrides(directory, warmup=warmup))


def load_study(path: Path) -> Study:
    """A study from its YAML file; recipes in it that are files are found beside it.

    Raises:
        ConfigError: there is no such file, or its contents are refused.
    """
    if not path.is_file():
        raise ConfigError(f"study {path}: no such file; docs/studies.md has an example")
    study = parse_study(path.read_text(encoding="utf-8", errors="replace"), str(path))
    beside = {
        name: task.model_copy(update={"recipe": str(path.parent / task.recipe)})
        for name, task in study.tasks.items()
        if (path.parent / task.recipe).is_file()
    }
    study = study.model_copy(update={"tasks": {**study.tasks, **beside}})
    for trial in study.trials():
        if trial.seed == study.seeds[0]:  # those of other seeds have the same settings
            trial.config(Path("runs"))
    return study


def parse_study(text: str, name: str = "") -> Study:
    """A study from YAML, as it stands; `name` is what messages call it.

    Raises:
        ConfigError: the text is refused.
    """
    try:
        tree = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"study {name}: not YAML: {error}") from None
    return make_section(Study, f"study {name}", tree)
