"""torchrun --nproc-per-node N -m fipo.training.score --config runs/NAME/config.yaml: benchmarks of a model as it is."""

from fipo.training.evaluate import evaluate_models
from fipo.training.job import run_job

if __name__ == "__main__":
    run_job("score", evaluate_models)
