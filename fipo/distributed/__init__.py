"""Ranks, the DeepSpeed engine, micro-batch planning and checkpoints."""
