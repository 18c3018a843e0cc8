"""Rollouts by vLLM servers of their own: start them (`server`), keep them busy (`dispatch`), send them weights."""
