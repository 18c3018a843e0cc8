"""Supervised warm-up."""

from fipo_kfp.components.sft.component import sft

__all__ = ["sft"]
