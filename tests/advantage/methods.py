"""Methods by the names of their parts, for tests."""

from shape_grpo import advantage
from shape_grpo.advantage import Method
from shape_grpo.credit import make_allocator, make_utility


def make_method(utility="max", allocator="shapley", allocator_options=None, **choices):
    """Return the method of these names."""
    allocator = make_allocator(allocator, **allocator_options or {})
    return Method(make_utility(utility), allocator, **choices)


def candidate_advantages(rewards, mask, lengths, index, *, scores=None, **choices):
    """Call `shape_grpo.advantage.candidate_advantages` with the method of ``choices``."""
    method = make_method(**choices)
    return advantage.candidate_advantages(rewards, mask, lengths, index, method, scores=scores)


def candidate_metrics(records, response_lengths, **choices):
    """Call `shape_grpo.advantage.candidate_metrics` with the method of ``choices``."""
    method = make_method(**choices)
    batch = advantage.CandidateBatch.collate(records, vectors=method.utility.takes_vectors)
    shares = batch.compute_shares(method)
    return advantage.candidate_metrics(records, response_lengths, batch, shares, method)
