"""Where the trials of a study wait for their warm-ups."""

from fipo_kfp.components.ready.component import ready

__all__ = ["ready"]
