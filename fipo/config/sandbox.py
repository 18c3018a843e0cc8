"""What a program may use that a response holds and a grader runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fipo.config.base import Role, Section


class Sandbox(Section):
    """Limits of one process; each test has a fresh one."""

    cpu_seconds: float = Field(6.0, ge=1.0)
    """Processor time of one test; in real time twice as much and two seconds more, and ten times that for all tests."""
    memory_megabytes: int = Field(1024, ge=64)
    """Address space."""
    require_isolation: Annotated[bool, Role.PLACEMENT] = False
    """Refuse to run programs without namespaces and seccomp, rather than with what is left where they are missing."""
