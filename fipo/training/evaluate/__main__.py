"""torchrun --nproc-per-node N -m fipo.training.evaluate --config runs/NAME/config.yaml."""

from fipo.training.evaluate import evaluate_models
from fipo.training.job import run_job

if __name__ == "__main__":
    run_job("evaluate", evaluate_models)
