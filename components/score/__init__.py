"""Benchmarks of one model."""

from fipo_kfp.components.score.component import score

__all__ = ["score"]
