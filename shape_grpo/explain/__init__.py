"""``python -m shape_grpo explain``: who gets which credit for what."""
