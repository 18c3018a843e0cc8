"""What a study compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, ValidationError, model_validator

from fipo.config import Config, Name, Section, load_config
from fipo.errors import ConfigError

FOLDER = Path(__file__).parent


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
    seeds: tuple[int, ...] = Field(min_length=2)
    questions: dict[Name, Question] = Field(min_length=1)

    @model_validator(mode="after")
    def _arms_exist(self) -> Self:
        named = {self.baseline, *(arm for question in self.questions.values() for arm in question.arms)}
        if unknown := sorted(named - self.arms.keys()):
            raise ValueError(f"baseline, questions: must name arms; got {', '.join(unknown)}")
        return self

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


def load_study(name: str) -> Study:
    """A study by the name of a file here (`demo`) or by path.

    Raises:
        ConfigError: there is no such file, or its contents are refused.
    """
    path = FOLDER / f"{name}.yaml" if (FOLDER / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ConfigError(f"study {name!r}: expected a YAML file or one of {known}")
    tree: Mapping[str, object] = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"study {path}: {error}") from None
    for trial in study.trials():
        trial.config(Path("runs"))
    return study
