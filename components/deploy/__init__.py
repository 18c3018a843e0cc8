"""The champion served in the cluster."""

from fipo_kfp.components.deploy.component import deploy

__all__ = ["deploy"]
