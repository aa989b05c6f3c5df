"""Evaluation of a trained policy: export of a checkpoint, sampling, and scores."""
