"""The only place that imports verl: checks, estimator, reward manager, trainers (verl 0.9.1)."""

import logging


def trainers_logger(name: str) -> logging.Logger:
    """For what is said in the trainer's process: a child of verl's own logger.

    There verl gives that one a handler, because vLLM's imports silence the root logger below ERROR.
    """
    return logging.getLogger(f"verl.{name}")
