"""What people fill in to start a run, as settings: the parameters of the pipelines.

Kubeflow shows the parameters in alphabetical order and without their descriptions, so the names alone must guide: first
the recipe and what differs from it, then the size and name of the run.
"""

import json
import os
import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fipo.errors import ConfigError

NOW = "%Y%m%d-%H%M%S"
NOTHING = "nothing"
"""What `configure` says is to be done where every step has finished before."""
_UNFILLED = re.compile(r"\[\[(ScheduledTime|CurrentTime|Index|RunUUID)")
YES, NO = "yes", "no"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
"""Seconds of RFC 3339; Kubeflow may add a fraction, and always UTC."""


@dataclass(frozen=True)
class Form:
    """The parameters of a pipeline; what is empty or 0 leaves what recipe and cluster say."""

    recipe: str
    recipe_changes: list[str] = field(default_factory=list)
    recipe_data: str = ""
    recipe_model: str = ""
    run_gpus_per_node: int = 0
    run_name: str = ""
    run_nodes: int = 0
    created: str = ""
    """When Kubeflow made the run, in RFC 3339."""
    run_id: str = ""
    """Kubeflow's id of the run."""

    def overrides(self, arm: str = "") -> list[str]:
        """Everything that stands over the recipe, from weak to strong, as `key.path=value`.

        The settings of the cluster (its config map `fipo`), the form, its changes, the arm of a comparison.

        Raises:
            ConfigError: the name of the run holds a placeholder that nobody fills in, or the arm cannot be read.
        """
        settings = {
            "run.name": self.run_name and json.dumps(self.name()),  # JSON is YAML, and keeps a name like `2026` a text
            "data.train": self.recipe_data and json.dumps([{"uri": self.recipe_data}]),
            "model": self.recipe_model and json.dumps({"name_or_path": self.recipe_model}),
            "trainjob.nodes": self.run_nodes,
            "trainjob.gpus_per_node": self.run_gpus_per_node,
        }
        cluster = [line for line in os.environ.get("FIPO_SETTINGS", "").splitlines() if line.strip()]
        name, *own = _read_arm(arm) or [""]
        named = [f"run.name={json.dumps(name)}", *own] if name else []
        return [*cluster, *(f"{key}={value}" for key, value in settings.items() if value), *self.recipe_changes, *named]

    def name(self) -> str:
        """`run_name` with `{time}`, when the run was made, and `{id}`, the first characters of its id, filled in."""
        refuse_unfilled("run_name", self.run_name)
        name = self.run_name
        if "{time}" in name:
            made = _TIMESTAMP.match(self.created)
            if not made:
                raise ConfigError(
                    f"run_name {name!r}: Kubeflow did not say when the run was made; got {self.created!r}"
                )
            name = name.replace("{time}", datetime.fromisoformat(made[0]).strftime(NOW))
        return name.replace("{id}", self.run_id[:8])


def check_arms(arms: list[Any]) -> None:
    """Refuse arms of a comparison that are no texts, or not told apart by their names.

    Raises:
        ConfigError: the message names the arm.
    """
    names: set[str] = set()
    for arm in arms:
        name, *_ = (_read_arm(arm) if isinstance(arm, str) else []) or [""]
        if not name:
            raise ConfigError(f"arm {arm!r}: expected the name of its run, and settings, as one text")
        if name in names:
            raise ConfigError(f"arm {arm!r}: expected another name, {name!r} is that of an arm before; two are one run")
        names.add(name)


def _read_arm(arm: str) -> list[str]:
    """The name of its run, and settings."""
    try:
        return shlex.split(arm)
    except ValueError as error:
        raise ConfigError(f"arm {arm!r}: {error}; settings are separated by blanks, and quoted as in a shell") from None


def refuse_unfilled(name: str, text: str) -> None:
    """Refuse Kubeflow's `[[ScheduledTime]]`: in the parameters of a schedule it stays as it stands.

    Raises:
        ConfigError: `text`, the value of the parameter `name`, holds such a placeholder.
    """
    if _UNFILLED.search(text) or (name == "run_name" and "[[" in text):
        raise ConfigError(
            f"{name} {text!r}: Kubeflow fills in no `[[...]]` in a schedule, and every run would have the same name; "
            "write {time} (when the run was made, such as 20261126-030000) or {id} (of Kubeflow's run)"
        )


def now() -> str:
    """The present time as Kubeflow gives it to a run."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
