"""Benchmarks: sampling and grading them, what the scores are and how sure."""
