"""The whole step, without a trainer: the figures of the paper, and a loop over tokens."""

import numpy as np
import pytest
import torch

from shape_grpo.advantage import CandidateBatch, CandidateRecord, token_advantages

SETTINGS = {
    "utility": "max",
    "allocator": "shapley",
    "advantage": "reweight",
    "length_correction": False,
    "norm_by_std": True,
    "epsilon": 1e-6,
    "allocator_options": None,
}
LENGTH = 12


def run(records, scores, index, mask=None, **settings):
    mask = torch.ones(len(records), LENGTH, dtype=torch.int64) if mask is None else mask
    return token_advantages(
        CandidateBatch.collate(records),
        torch.tensor(scores),
        mask,
        np.array(index, dtype=object),
        **{**SETTINGS, **settings},
    )


def test_figure_1_of_the_paper():
    """Ratings 5, 4, 3: shares 2.5, 1.5, 1.0 of 5. Scores 5 and 1: mean 3, standard deviation
    sqrt(8)."""
    records = [
        CandidateRecord([5.0, 4.0, 3.0], [2, 5, 8], [4, 7, 10]),
        CandidateRecord([1.0], [0], [4]),
    ]
    tokens, shared = run(records, [5.0, 1.0], ["q", "q"])
    plain = 2 / (8**0.5 + 1e-6)
    assert shared.tolist() == pytest.approx([plain, -plain])
    weights = [1, 1, 1.5, 1.5, 1, 0.9, 0.9, 1, 0.6, 0.6, 1, 1]
    assert tokens[0].tolist() == pytest.approx([weight * plain for weight in weights])
    assert tokens[1].tolist() == pytest.approx([-plain] * LENGTH)
    assert tokens.dtype == shared.dtype == torch.float32


def test_a_response_that_nobody_could_score_gets_nothing_and_moves_no_mean():
    records = [
        CandidateRecord([4.0], [0], [4]),
        CandidateRecord([None], [0], [4], error="Traceback"),
        CandidateRecord([1.0], [0], [4]),
    ]
    tokens, shared = run(records, [4.0, 100.0, 1.0], ["q"] * 3)
    plain = 1.5 / (4.5**0.5 + 1e-6)
    assert shared.tolist() == pytest.approx([plain, 0, -plain])
    assert tokens[1].tolist() == [0.0] * LENGTH


def test_corrected_weights_average_1_over_the_tokens_that_the_policy_wrote():
    """Those of a tool inside a candidate's span count for no length, and are paid nothing."""
    mask = torch.ones(2, LENGTH, dtype=torch.int64)
    mask[0, 3:5] = 0
    records = [CandidateRecord([5.0, 4.0], [0, 6], [6, 8]), CandidateRecord()]
    tokens, shared = run(records, [5.0, 0.0], ["q", "q"], mask, length_correction=True)
    written = mask[0, :8].bool()
    assert tokens[0, :8][written].mean().item() == pytest.approx(shared[0].item())
    assert tokens[0, 3:5].tolist() == [0.0, 0.0]
    # Shares 3 and 2 of 5, for 4 and 2 tokens of 6.
    assert tokens[0, 0].item() == pytest.approx(3 / 5 * 6 / 4 * shared[0].item())
    assert tokens[0, 6].item() == pytest.approx(2 / 5 * 6 / 2 * shared[0].item())
