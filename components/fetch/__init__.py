"""A registered model, brought to where it is used."""

from components.fetch.component import fetch

__all__ = ["fetch"]
