"""FIPO's RL loop: `loop` is the algorithm, `sampling` fills a rollout batch, `update` takes the optimizer steps."""
