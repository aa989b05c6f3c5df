"""From candidate rewards, spans and groups to the advantages of response tokens."""

from shape_grpo.advantage.explanation import explain
from shape_grpo.advantage.readings import (
    READINGS,
    Credit,
    candidate_advantages,
    register_reading,
)
from shape_grpo.advantage.scatter import BACKENDS, scatter_candidate_advantages
from shape_grpo.credit import credit_weights

__all__ = [
    "BACKENDS",
    "READINGS",
    "Credit",
    "candidate_advantages",
    "credit_weights",
    "explain",
    "register_reading",
    "scatter_candidate_advantages",
]
