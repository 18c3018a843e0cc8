"""The runs of an experiment side by side."""

from components.compare.component import compare

__all__ = ["compare"]
