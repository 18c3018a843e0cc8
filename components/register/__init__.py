"""Registration of the trained model."""

from fipo_kfp.components.register.component import register

__all__ = ["register"]
