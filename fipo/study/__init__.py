"""Studies: one task trained in many ways and with several seeds, then compared. `fipo study --help`, docs/studies.md.

study         what is compared: tasks x arms x seeds, from a YAML file, and the outcome that decides
registration  what was asked for before anything was seen
runner        every trial as ordinary `fipo` steps, side by side on this machine's cores, resumable
results       what MLflow has of them
roles         influence weights by the role of a token
statistics    means over seeds, adjusted for the number of arms; equivalence; how many seeds an effect needs
report        verdicts, tables and figures
page          the same in one HTML file, for Kubeflow
"""
