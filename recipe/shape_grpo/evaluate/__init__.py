"""What training made: a checkpoint as a model, its answers, and what they are worth."""
