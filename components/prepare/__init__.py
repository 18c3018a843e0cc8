"""Raw problems to training and evaluation data."""

from fipo_kfp.components.prepare.component import prepare

__all__ = ["prepare"]
