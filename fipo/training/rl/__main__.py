"""torchrun --nproc-per-node N -m fipo.training.rl --config runs/NAME/config.yaml."""

from fipo.training.job import run_job
from fipo.training.rl.loop import train

if __name__ == "__main__":
    run_job("train", train)
