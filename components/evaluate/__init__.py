"""Benchmarks before and after RL."""

from fipo_kfp.components.evaluate.component import evaluate

__all__ = ["evaluate"]
