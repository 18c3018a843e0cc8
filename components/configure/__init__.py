"""The settings of a run, checked before anything is started."""

from components.configure.component import configure

__all__ = ["configure"]
