"""What happens when the pipeline has ended."""

from fipo_kfp.components.finish.component import finish

__all__ = ["finish"]
