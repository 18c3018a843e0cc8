"""The Kubeflow pipelines, and `python -m pipelines` to run, compile and submit them."""
