"""The only place that imports verl: checks, estimator, reward manager, trainers (verl 0.9.1)."""

import logging


def trainers_logger(name: str) -> logging.Logger:
    """Return a logger for the trainer's process: a child of verl's own logger.

    verl gives its logger a handler there; vLLM's imports silence the root logger below ERROR.
    """
    return logging.getLogger(f"verl.{name}")
