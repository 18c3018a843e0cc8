"""What grading and turns need of this machine, found out before a step works: classes, and a sandbox for programs."""

from __future__ import annotations

from fipo.config import Config
from fipo.environments.registry import find
from fipo.errors import ConfigError
from fipo.rewards.notice import grading_notice, sandbox_notice


def notice(config: Config, sets: str = "data.") -> str:
    """What holds in the programs that graders and tools run here, in words; empty where none run any.

    Args:
        config: of the run.
        sets: beginning of the settings that name the sources, such as `data.train`.

    Raises:
        ConfigError: a grader or an environment cannot be imported or is none; or `reward.sandbox.require_isolation` is
            set, and less is in force.
        RewardError: programs cannot be run here at all.
    """
    named = {name: source.environment for name, source in config.data.sources.items() if name.startswith(sets)}
    for name, environment in named.items():
        if environment:
            try:
                find(environment)
            except ConfigError as error:
                raise ConfigError(f"{name}.environment: {error}") from error
    found = grading_notice(config, sets)
    return found or (sandbox_notice(config) if "python" in named.values() else "")
