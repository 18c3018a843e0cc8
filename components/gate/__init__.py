"""The decision whether a model is promoted."""

from components.gate.component import gate

__all__ = ["gate"]
