"""Kubeflow components: doors that parse, call `fipo` and write artifacts."""
