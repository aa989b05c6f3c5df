"""The estimator through verl's own compute_advantage, against verl's own GRPO."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.trainer.ppo.ray_trainer import compute_advantage

from shape_grpo.advantage import CandidateBatch, CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.context import CandidatesInContext, candidates_in_context

LENGTH = 24


def verl_batch(scores, uids, mask=None):
    """A batch as verl's trainer passes it: each score on the response's last token."""
    mask = torch.ones(len(scores), LENGTH) if mask is None else mask
    rewards = torch.zeros(len(scores), LENGTH)
    rewards[:, -1] = torch.tensor(scores)
    return DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask},
        non_tensors={"uid": np.array(uids, dtype=object)},
    )


def advantages(records, scores, uids, final_rows=None, mask=None, **block):
    config = OmegaConf.create({"norm_adv_by_std_in_grpo": True, "shape_grpo": block})
    method = ShapeGRPOConfig.from_algorithm(config).method
    rows = torch.arange(len(records)) if final_rows is None else torch.tensor(final_rows)
    batch = CandidateBatch.collate(records, vectors=method.utility.takes_vectors)
    context = CandidatesInContext(batch, batch.compute_shares(method), rows, method)
    with candidates_in_context(context):
        data = compute_advantage(
            verl_batch(scores, uids, mask), adv_estimator="shape_grpo", config=config
        )
    assert data.batch["returns"].equal(data.batch["advantages"])
    return data.batch["advantages"]


def grpo(scores, uids):
    data = verl_batch(scores, uids)
    return compute_grpo_outcome_advantage(
        data.batch["token_level_rewards"], data.batch["response_mask"], index=np.array(uids)
    )[0]


def random_records(generator, count):
    records = []
    for _ in range(count):
        k = int(generator.integers(0, 5))
        cuts = np.sort(generator.choice(LENGTH, 2 * k, replace=False)).tolist()
        rewards = generator.integers(0, 6, k).astype(float).tolist()
        records.append(CandidateRecord(rewards, cuts[::2], cuts[1::2]))
    return records


def test_figure_1_of_the_paper():
    """Ratings 5, 4, 3: shares 2.5, 1.5, 1.0 of 5, so weights 1.5, 0.9, 0.6 at equal lengths."""
    records = [
        CandidateRecord([5.0, 4.0, 3.0], [2, 6, 10], [4, 8, 12]),
        CandidateRecord([1.0], [0], [4]),
    ]
    result = advantages(records, [5.0, 1.0], ["q", "q"])
    plain = grpo([5.0, 1.0], ["q", "q"])[0, 0].item()
    assert result[0, [2, 6, 10]].tolist() == pytest.approx([1.5 * plain, 0.9 * plain, 0.6 * plain])
    assert result[0, [0, 5, 12, 23]].tolist() == pytest.approx([plain] * 4)
    assert result[0, 2:12].view(-1, 2)[[0, 2, 4]].mean().item() == pytest.approx(plain)


def test_vectors_of_tests_passed():
    """Of the tests 0 and 1, both passed by the first candidate and 1 by the second as well: shares
    1.5 and 0.5 of 2, so weights 1.5 and 0.5."""
    records = [
        CandidateRecord([[1, 1], [0, 1]], [2, 6], [4, 8]),
        CandidateRecord([[1]], [0], [4]),
        CandidateRecord(),
    ]
    result = advantages(records, [2.0, 1.0, 0.0], ["q"] * 3, utility="coverage")
    plain = grpo([2.0, 1.0, 0.0], ["q"] * 3)[0, 0].item()
    assert result[0, [2, 6, 0]].tolist() == pytest.approx([1.5 * plain, 0.5 * plain, plain])
    assert result[1].tolist() == pytest.approx([0.0] * LENGTH, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_allocator_uniform_is_verls_grpo(seed):
    generator = np.random.default_rng(seed)
    records = random_records(generator, 12)
    scores = [max(record.rewards, default=0.0) for record in records]
    uids = [f"prompt {i // 4}" for i in range(12)]
    result = advantages(
        records, scores, uids, allocator="uniform", length_correction=bool(seed % 2)
    )
    torch.testing.assert_close(result, grpo(scores, uids), atol=1e-6, rtol=1e-5)


def test_a_rollouts_earlier_outputs_share_the_advantage_of_its_last():
    """Rows 0 and 1 are one rollout; statistics count it once, and spans belong to row 1."""
    records = [
        CandidateRecord(),
        CandidateRecord([4.0, 2.0], [0, 8], [4, 12]),
        CandidateRecord([1.0], [0], [4]),
    ]
    result = advantages(records, [4.0, 4.0, 1.0], ["q"] * 3, final_rows=[1, 1, 2])
    plain = grpo([4.0, 1.0], ["q"] * 2)
    assert result[0].tolist() == pytest.approx([plain[0, 0].item()] * LENGTH)
    assert result[1, 0].item() == pytest.approx(1.5 * plain[0, 0].item())
    assert result[1, 20].item() == pytest.approx(plain[0, 0].item())
    assert result[2, 20].item() == pytest.approx(plain[1, 0].item())


def test_a_response_whose_rewards_all_failed_trains_nothing_and_moves_no_statistic():
    records = [
        CandidateRecord([4.0], [0], [4]),
        CandidateRecord([None, None], [0, 6], [4, 9], error="Traceback"),
        CandidateRecord([1.0], [0], [4]),
    ]
    result = advantages(records, [4.0, 0.0, 1.0], ["q"] * 3)
    assert result[1].tolist() == [0.0] * LENGTH
    expected = grpo([4.0, 1.0], ["q"] * 2)
    torch.testing.assert_close(result[[0, 2]], expected, atol=1e-6, rtol=1e-5)


def test_tokens_the_policy_did_not_write_get_nothing():
    mask = torch.ones(2, LENGTH)
    mask[0, 3:6] = 0
    records = [CandidateRecord([2.0, 1.0], [0, 4], [4, 8]), CandidateRecord()]
    result = advantages(records, [2.0, 0.0], ["q", "q"], mask=mask)
    assert result[0, 3:6].tolist() == [0.0] * 3
    assert (result[0, [0, 6, 20]] != 0).all()


def test_without_the_trainer_it_says_how_to_launch():
    with pytest.raises(RuntimeError, match=r"trainer\.v1\.trainer_mode=shape_grpo"):
        compute_advantage(
            verl_batch([1.0], ["q"]), adv_estimator="shape_grpo", config=OmegaConf.create({})
        )
