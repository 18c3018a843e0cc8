"""Train reasoning models with FIPO (arXiv 2603.19835), as a pipeline to run, schedule, compare and trust."""

__version__ = "0.2.0"
