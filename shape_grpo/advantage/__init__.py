"""From candidate rewards, spans and groups to the advantages of response tokens."""

from shape_grpo.advantage.candidates import candidate_advantages
from shape_grpo.advantage.formulas import ADVANTAGES, Credit, register_advantage
from shape_grpo.advantage.groups import GROUP_COUNTS, GroupCounts, count_groups
from shape_grpo.advantage.method import Method
from shape_grpo.advantage.metrics import candidate_metrics
from shape_grpo.advantage.records import CandidateBatch, CandidateRecord, Reward, stack_rewards
from shape_grpo.advantage.rollouts import rollout_advantages
from shape_grpo.advantage.scatter import scatter_candidate_advantages
from shape_grpo.advantage.several import lower_floors, scale_rewards
from shape_grpo.advantage.statistics import GroupIndex
from shape_grpo.advantage.tokens import token_advantages

__all__ = [
    "ADVANTAGES",
    "GROUP_COUNTS",
    "CandidateBatch",
    "CandidateRecord",
    "Credit",
    "GroupCounts",
    "GroupIndex",
    "Method",
    "Reward",
    "candidate_advantages",
    "candidate_metrics",
    "count_groups",
    "lower_floors",
    "register_advantage",
    "rollout_advantages",
    "scale_rewards",
    "scatter_candidate_advantages",
    "stack_rewards",
    "token_advantages",
]
