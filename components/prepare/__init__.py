"""Raw problems to training and evaluation data."""

from components.prepare.component import prepare

__all__ = ["prepare"]
