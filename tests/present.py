"""What must be there, for the type checker and for whoever reads the failure."""

from typing import TypeVar

Thing = TypeVar("Thing")


def present(thing: Thing | None) -> Thing:
    """`thing`, which is not None."""
    assert thing is not None
    return thing
