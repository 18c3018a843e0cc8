"""FIPO's RL loop.

loop        the algorithm: `reinforce`
parts       what it works with, opened from a job
sampling    draw, generate, verify, keep groups with a signal; batches: a batch ahead of the updates
advantages  Eq. 1, once for updates and records
learner     mini-batches with old log-probs, and the loss of each part
metrics     what a step measures; log: what it tells
records     single responses, for people to look at
validation  the policy on held-out problems
signal      steps in which nothing is right
state       where the loop is, and when it ends
"""
