"""Training in this process, with the credit of `shape_grpo` and without Ray or vLLM."""
