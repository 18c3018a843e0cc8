"""What the `fipo` command can do: a module for each group of commands, each with `add_to`."""
