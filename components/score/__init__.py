"""Benchmarks of one model."""

from components.score.component import score

__all__ = ["score"]
