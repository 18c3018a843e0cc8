"""Rewards: the mathematical verifier, its killable workers, overlong shaping, and the scorer that combines them."""
