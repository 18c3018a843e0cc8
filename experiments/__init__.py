"""Studies: the same task trained in many ways and with several seeds, then compared. `python -m experiments --help`.

study     what is compared: tasks x arms x seeds, from a YAML file
runner    every trial as ordinary `fipo` steps, side by side on this machine's cores, resumable
results   what MLflow has of them
report    tables and figures with intervals over seeds
"""
