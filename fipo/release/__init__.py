"""From a trained model to one that is used: gate, registry, and serving on this machine or in the cluster."""
