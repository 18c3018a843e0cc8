"""The champion served in the cluster."""

from components.deploy.component import deploy

__all__ = ["deploy"]
