"""Figures, terminal tables and the run report."""
