"""Running programs that a model wrote: a process that can do nothing but compute, and a judge outside it."""
