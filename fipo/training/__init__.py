"""The jobs that change or measure weights: SFT, RL, evaluation."""
