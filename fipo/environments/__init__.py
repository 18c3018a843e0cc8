"""Turns and tools: what answers the model between its turns. docs/environments.md says how to write one.

protocol   Environment: what each of them is
registry   those that are built in, and one's own by name
host       the conversations of a rank: threads, sandboxes, errors with a name
notice     whether all that a run names are there, and what holds their programs in
python     a tool: Python code of the model, run in the sandbox
guess      a game: a number that the model cannot see
"""
