"""The runs of a comparison side by side."""

from fipo_kfp.components.compare.component import compare

__all__ = ["compare"]
