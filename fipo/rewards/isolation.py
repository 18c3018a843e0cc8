"""What holds in the programs that `tests` runs, found out and said before the first is run."""

from __future__ import annotations

from fipo.config import Config
from fipo.errors import ConfigError
from fipo.rewards.sandbox.client import Sandbox


def isolation_notice(config: Config, sets: str = "data.") -> str:
    """What is in force on this machine, in words; empty where no source runs programs.

    Args:
        config: of the run.
        sets: beginning of the settings that name the sources, such as `data.train`.

    Raises:
        ConfigError: `reward.sandbox.require_isolation` is set, and less is in force.
        RewardError: programs cannot be run here at all.
    """
    if not any(source.grader == "tests" for name, source in config.data.sources.items() if name.startswith(sets)):
        return ""
    with Sandbox() as sandbox:
        found, refused = sandbox.isolation, sandbox.refused
    if config.reward.sandbox.require_isolation and not found.is_complete:
        raise ConfigError(
            "reward.sandbox.require_isolation: must have namespaces and seccomp; on this machine there are "
            f"{found} ({refused or 'libseccomp.so.2 is not installed'}). docs/graders.md says what allows them"
        )
    missing = f"; namespaces are refused ({refused})" if refused else ""
    return f"programs of responses are held in by {found}{missing}"
