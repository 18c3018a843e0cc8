"""Benchmarks before and after RL."""

from components.evaluate.component import evaluate

__all__ = ["evaluate"]
