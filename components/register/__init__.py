"""Registration of the trained model."""

from components.register.component import register

__all__ = ["register"]
