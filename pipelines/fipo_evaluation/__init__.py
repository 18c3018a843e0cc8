"""A registered model on the benchmarks of a recipe."""
