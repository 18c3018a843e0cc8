"""What happens when the pipeline has ended."""

from components.finish.component import finish

__all__ = ["finish"]
