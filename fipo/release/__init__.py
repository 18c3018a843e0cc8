"""A registered model at work: served on this machine, or in the cluster."""
