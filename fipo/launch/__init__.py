"""Starting distributed jobs: torchrun on this machine."""
