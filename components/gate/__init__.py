"""The decision whether a model is promoted."""

from fipo_kfp.components.gate.component import gate

__all__ = ["gate"]
