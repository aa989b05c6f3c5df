"""From candidate rewards, spans and groups to the advantages of response tokens."""

from shape_grpo.advantage.candidates import candidate_advantages
from shape_grpo.advantage.explanation import credit_in_words, explain
from shape_grpo.advantage.metrics import candidate_metrics
from shape_grpo.advantage.readings import READINGS, Credit, register_reading
from shape_grpo.advantage.records import CandidateBatch, CandidateRecord, Reward, stack_rewards
from shape_grpo.advantage.scatter import scatter_candidate_advantages
from shape_grpo.advantage.tokens import token_advantages

__all__ = [
    "READINGS",
    "CandidateBatch",
    "CandidateRecord",
    "Credit",
    "Reward",
    "candidate_advantages",
    "candidate_metrics",
    "credit_in_words",
    "explain",
    "register_reading",
    "scatter_candidate_advantages",
    "stack_rewards",
    "token_advantages",
]
