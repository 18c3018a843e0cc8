"""Whether the package of a rollout engine is here; torch is not imported to find out."""

from __future__ import annotations

from importlib.util import find_spec

from fipo.errors import ConfigError


def require_engine(engine: str) -> None:
    """Refuse `rollout.engine` where its package is not installed.

    Raises:
        ConfigError: it needs vLLM.
    """
    if engine != "transformers" and find_spec("vllm") is None:
        raise ConfigError(
            f"rollout.engine: {engine} needs vLLM, which is not installed here: pip install 'fipo[vllm]', or "
            "set rollout.engine=transformers"
        )
