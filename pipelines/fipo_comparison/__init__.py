"""Several trainings side by side, and what tells them apart."""
