"""The whole step, without a trainer: the figures of the paper, and a loop over tokens."""

import numpy as np
import pytest
import torch

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateBatch,
    CandidateRecord,
    candidate_metrics,
    token_advantages,
)
from shape_grpo.credit import Coverage, Max, SoftmaxChoice
from tests.advantage.methods import make_method

LENGTH = 12


def run(records, scores, index, mask=None, **settings):
    mask = torch.ones(len(records), LENGTH, dtype=torch.int64) if mask is None else mask
    batch, method = CandidateBatch.collate(records), make_method(**settings)
    shares, index = batch.compute_shares(method), np.array(index, dtype=object)
    return token_advantages(batch, shares, torch.tensor(scores), mask, index, method)


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


def test_a_response_that_could_not_be_scored_gets_nothing_and_moves_no_mean():
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


class Counting:
    """A utility that counts the rewards that it is asked to split."""

    def __init__(self):
        self.elements, self.calls = 0, 0

    def semivalue(self, rewards, mask, law):
        self.elements, self.calls = self.elements + rewards.numel(), self.calls + 1
        return super().semivalue(rewards, mask, law)


class CountingMax(Counting, Max):
    pass


class CountingCoverage(Counting, Coverage):
    def __init__(self):
        Counting.__init__(self)
        Coverage.__init__(self)


LARGE = CandidateRecord([1.0] * 1000, list(range(1000)), list(range(1, 1001)))
MANY_TESTS = CandidateRecord([[1.0] * 100] * 1000, LARGE.starts, LARGE.ends)
SMALL = [CandidateRecord([2.0, 1.0, 3.0], [0, 2, 4], [2, 4, 6]) for _ in range(127)]
FEW_TESTS = [CandidateRecord([[1.0] * 100, [0.0] * 100], [0, 2], [2, 4]) for _ in range(127)]


@pytest.mark.parametrize(
    ("utility", "records", "candidates"),
    [
        (CountingMax(), [*SMALL, LARGE], 1000 + 3 * 127),
        (CountingCoverage(), [*FEW_TESTS, MANY_TESTS], 100 * (1000 + 2 * 127)),
    ],
    ids=["max", "coverage"],
)
def test_no_set_pays_for_a_larger_one(utility, records, candidates):
    """Of 128,000 places (12.8 million numbers) in the padded batch."""
    batch = CandidateBatch.collate(records, vectors=utility.takes_vectors)
    batch.compute_shares(make_method(utility))
    # Sets below 8 candidates are filled up to 8.
    assert utility.elements <= 4 * candidates


@pytest.mark.parametrize("length_correction", [True, False])
@pytest.mark.parametrize("advantage", sorted(ADVANTAGES))
@pytest.mark.parametrize("utility", [Max(), SoftmaxChoice(temperature=0.5)], ids=["max", "softmax"])
def test_credit_is_the_same_beside_a_much_larger_set(utility, advantage, length_correction):
    settings = {
        "utility": utility,
        "advantage": advantage,
        "length_correction": length_correction,
        "allocator": "leave_one_out",
    }
    mask = torch.ones(4, 1200)
    generator = np.random.default_rng(0)
    records = []
    for count in (3, 5, 9, 0):
        cuts = np.sort(generator.choice(1200, 2 * count, replace=False)).tolist()
        records.append(CandidateRecord(generator.random(count).tolist(), cuts[::2], cuts[1::2]))
    scores, index = [1.0, 0.5, 0.25, 0.0], ["q"] * 4
    alone, _ = run(records, scores, index, mask, **settings)
    together, _ = run(
        [*records, LARGE], [*scores, 1.0], [*index, "p"], torch.ones(5, 1200), **settings
    )
    torch.testing.assert_close(together[:4], alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("advantage", ["reweight", "normalize", "pooled", "contrast"])
def test_advantages_and_metrics_use_the_shares_that_they_are_given(advantage):
    records = [CandidateRecord([float(k), 1.0], [0, 4], [4, 8]) for k in range(3)]
    batch, utility = CandidateBatch.collate(records), CountingMax()
    method = make_method(utility, advantage=advantage)
    shares = batch.compute_shares(method)
    token_advantages(batch, shares, torch.ones(3), torch.ones(3, LENGTH), ["q"] * 3, method)
    candidate_metrics(records, [LENGTH] * 3, batch, shares, method)
    # `contrast` splits the lowest rewards of the group too.
    assert utility.calls == 1 + (advantage == "contrast")


@pytest.mark.parametrize("advantage", sorted(ADVANTAGES))
def test_rows_are_those_of_the_whole_batch(advantage):
    """Processes that share groups each compute the tokens of their own responses."""
    records = [CandidateRecord([float(k), 1.0], [0, 4], [4, 8 + k]) for k in range(4)]
    batch, method = CandidateBatch.collate(records), make_method(advantage=advantage)
    shares, scores = batch.compute_shares(method), torch.tensor([1.0, 1.0, 2.0, 3.0])
    mask, index = torch.ones(4, LENGTH), ["q"] * 4
    whole, _ = token_advantages(batch, shares, scores, mask, index, method)
    own = slice(1, 3)
    part, shared = token_advantages(batch, shares, scores, mask[own], index, method, rows=own)
    assert torch.equal(part, whole[own]) and shared.shape == (2,)


def test_metrics_refuse_candidates_of_other_responses():
    batch, method = CandidateBatch.collate(SMALL), make_method()
    with pytest.raises(ValueError, match="candidates of 127 responses, records of 2"):
        candidate_metrics(SMALL[:2], [6, 6], batch, batch.compute_shares(method), method)
