"""Credited responses and their views; the command ``python -m shape_grpo explain``."""
