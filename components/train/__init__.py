"""FIPO reinforcement learning."""

from fipo_kfp.components.train.component import train

__all__ = ["train"]
