"""Where a reward function of that name comes from; told without importing it."""

from __future__ import annotations

from importlib.metadata import entry_points

ENTRY_POINTS = "fipo.rewards"
"""Group under which an installed package offers reward functions."""


def module_of(name: str) -> str:
    """The module of an entry point or of `package.module:function`; empty for what is neither: built in, or unknown."""
    offered = entry_points(group=ENTRY_POINTS)
    if name in offered.names:
        return offered[name].module
    return name.partition(":")[0] if ":" in name else ""
