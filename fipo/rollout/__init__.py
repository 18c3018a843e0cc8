"""Inference engines behind one interface: token ids in; responses, log-probs, finish reason and weight version out."""
