"""`python -m fipo.tracking > docs/metrics.md`."""

from fipo.tracking.metric_names import to_markdown

print(to_markdown(), end="")
