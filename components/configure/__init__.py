"""The settings of a run, checked before anything is started."""

from fipo_kfp.components.configure.component import configure

__all__ = ["configure"]
