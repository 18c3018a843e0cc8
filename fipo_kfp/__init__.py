"""The Kubeflow side of fipo under one importable name: its components and its pipelines.

Both lie at the top of the repository, where people look for them; here are links to them. So `fipo_kfp.components` is
the same in a checkout, in a wheel and in an image, and nothing called `components` lands in anybody's site-packages.
"""
