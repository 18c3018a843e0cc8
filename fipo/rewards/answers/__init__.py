"""Answers: where a response gives one, what it says, and whether two say the same; docs/verifier.md is the grammar."""
