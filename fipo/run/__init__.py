"""A run: its steps, what makes a step's result what it is, the results in the object store, and where a step works."""
