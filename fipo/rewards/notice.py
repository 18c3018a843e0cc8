"""What grading needs of this machine, found out before a step works: its graders, and a sandbox for programs."""

from __future__ import annotations

from fipo.config import Config
from fipo.errors import ConfigError
from fipo.rewards.graders import find
from fipo.rewards.sandbox.client import Sandbox


def grading_notice(config: Config, sets: str = "data.") -> str:
    """What holds in the programs that graders run here, in words; empty where no source runs any.

    Args:
        config: of the run.
        sets: beginning of the settings that name the sources, such as `data.train`.

    Raises:
        ConfigError: a grader cannot be imported; or `reward.sandbox.require_isolation` is set, and less is in force.
        RewardError: programs cannot be run here at all.
    """
    graders = {name: source.grader for name, source in config.data.sources.items() if name.startswith(sets)}
    for name, grader in graders.items():
        try:
            find(grader)
        except ConfigError as error:
            raise ConfigError(f"{name}.grader: {error}") from error
    return sandbox_notice(config) if "tests" in graders.values() else ""


def sandbox_notice(config: Config) -> str:
    """What holds programs in here, in words.

    Raises:
        ConfigError: `reward.sandbox.require_isolation` is set, and less is in force.
        RewardError: programs cannot be run here at all.
    """
    with Sandbox() as sandbox:
        found, refused = sandbox.isolation, sandbox.refused
    if config.reward.sandbox.require_isolation and not found.is_complete:
        raise ConfigError(
            "reward.sandbox.require_isolation: must have namespaces and seccomp; on this machine there are "
            f"{found} ({refused or 'libseccomp.so.2 is not installed'}). docs/graders.md says what allows them"
        )
    missing = f"; namespaces are refused ({refused})" if refused else ""
    return f"programs of responses are held in by {found}{missing}"
