"""What holds with versions of verl after the tested one, as far as they are known."""

import asyncio
import json
import warnings

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1 import replay_buffer

from shape_grpo.advantage import CandidateRecord
from shape_grpo.verl import versions
from shape_grpo.verl.checks import RECORD_KEY, check_trainer_config
from tests.verl.fake_queue import PROMPTS, SIZE, scored

LENGTH = 4
RECORDS = [
    scored(5.0, 4.0, 3.0),
    scored(1.0),
    scored(2.0, None),
    CandidateRecord(),
    scored(None, None),
    scored(0.0, 3.0),
    scored(4.0, 4.0),
    scored(1.0, 2.0, 0.0),
]
UIDS = np.array([f"uid{n // SIZE}" for n in range(PROMPTS * SIZE)], dtype=object)


def column(values):
    """A column of a batch, as verl has them."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


TEXTS = [record.to_json() for record in RECORDS]
EXTRA_FIELDS = column([{"reward_extra_info": {RECORD_KEY: text}} for text in TEXTS])
PASSED = {
    # Further arguments of an estimator.
    "as #7473 would pass them": {"non_tensor_batch": {"uid": UIDS, RECORD_KEY: column(TEXTS)}},
    "as the V1 trainer has them": {"non_tensor_batch": {"uid": UIDS, "extra_fields": EXTRA_FIELDS}},
    "by name": {"extra_fields": EXTRA_FIELDS},
    "in a batch": {
        "batch": DataProto.from_dict(
            tensors={"x": torch.zeros(len(TEXTS))}, non_tensors={RECORD_KEY: column(TEXTS)}
        )
    },
}


def estimate(estimator, passed, algorithm, scores):
    rewards = torch.zeros(len(scores), LENGTH)
    rewards[:, -1] = torch.tensor(scores)
    advantages, returns = get_adv_estimator_fn(estimator)(
        token_level_rewards=rewards,
        response_mask=torch.ones(len(scores), LENGTH),
        config=algorithm,
        index=UIDS,
        **passed,
    )
    assert returns.equal(advantages)
    return advantages


@pytest.mark.parametrize("passed", PASSED.values(), ids=PASSED)
@pytest.mark.parametrize(
    "block", [{}, {"advantage": "praise"}, {"allocator": "uniform", "floor_reward": -1.0}]
)
def test_an_estimator_that_gets_its_batch_needs_no_trainer_of_ours(
    make_trainer, run_step, queue, block, passed
):
    """Its advantages are those of the trainer's path."""
    trainer = make_trainer(max_error_share=1.0, **block)
    batch, _ = run_step(trainer, RECORDS)
    by_trainer = torch.stack([queue.fields[key]["advantages"] for key in batch.keys])
    scores = [queue.fields[key]["rm_scores"].sum().item() for key in batch.keys]
    assert by_trainer.unique().numel() > 4
    result = estimate("shape_grpo", passed, trainer.config.algorithm, scores)
    torch.testing.assert_close(result, by_trainer)


def test_so_does_that_of_rollouts(make_trainer, run_step, queue):
    block = {"allocator": "best_of_k", "allocator_options": {"k": 2}, "max_candidates": 1}
    trainer = make_trainer(max_error_share=1.0, **block)
    trainer.config.algorithm.adv_estimator = "shape_grpo_rollouts"
    batch, _ = run_step(trainer, RECORDS)
    by_trainer = torch.stack([queue.fields[key]["advantages"] for key in batch.keys])
    scores = [queue.fields[key]["rm_scores"].sum().item() for key in batch.keys]
    algorithm = trainer.config.algorithm
    passed = PASSED["as #7473 would pass them"]
    torch.testing.assert_close(
        estimate("shape_grpo_rollouts", passed, algorithm, scores), by_trainer
    )
    # Of the reward alone it cannot know that a response's rewards failed.
    plain = estimate("shape_grpo_rollouts", {}, algorithm, scores)
    assert not torch.allclose(plain, by_trainer)


def test_a_batch_without_records_is_said_to_have_none():
    passed = {"non_tensor_batch": {"uid": UIDS, "extra_fields": column([{}] * len(UIDS))}}
    with pytest.raises(RuntimeError, match=r"trainer\.v1\.trainer_mode=shape_grpo"):
        estimate("shape_grpo", passed, OmegaConf.create({}), [0.0] * len(UIDS))


def test_groups_are_filtered_by_the_score_where_verl_has_no_reward(
    make_trainer, queue, monkeypatch
):
    """Before #7792 (September 2026), verl looked for the key in `reward_extra_info` alone."""
    monkeypatch.setattr(replay_buffer, "FILTER_GROUPS_REWARD_METRIC", "no such name")
    trainer = make_trainer(filter_groups=True)
    assert trainer.config.algorithm.filter_groups.metric == "score"
    numbers = iter(range(100))

    def answer(prompts):
        for number, _ in zip(numbers, range(prompts), strict=False):
            queue.add_group(f"uid{number}", [scored(1.0 if number else 2.0), scored(2.0)])

    trainer.replay_buffer.refill_fn = answer
    answer(PROMPTS)
    batch, metrics = trainer.replay_buffer.sample(
        global_steps=1, partition_id="train", batch_size=PROMPTS
    )
    assert metrics["training/filter_groups/evicted_samples"] == 1
    assert len(batch.keys) == PROMPTS * SIZE


def make_manager(config, compute_score):
    words = ["<pad>", "<eos>", *(f"<candidate>{x}</candidate>" for x in "ab"), "none"]
    model = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<pad>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<eos>", pad_token="<pad>", unk_token="<pad>"
    )
    return get_reward_manager_cls("multi_candidate")(config, tokenizer, compute_score)


def score(manager, text):
    ids = manager.tokenizer(text)["input_ids"]
    data = DataProto.from_dict(
        tensors={
            "prompts": torch.tensor([[4]]),
            "responses": torch.tensor([ids]),
            "attention_mask": torch.ones(1, 1 + len(ids), dtype=torch.long),
        },
        non_tensors={
            "data_source": column(["letters"]),
            "reward_model": column([{"ground_truth": "a"}]),
            "extra_info": column([{}]),
        },
    )

    async def main():
        manager.loop = asyncio.get_running_loop()
        return await manager.run_single(data)

    return asyncio.run(main())["reward_extra_info"]


def graded(solution_str, **more):
    return {"score": float(solution_str == "a"), "pred": solution_str, "helpful": 0.5}


def test_every_response_has_the_same_keys(recipe_config):
    """Where verl makes columns of them, a missing key would end the run with a KeyError."""
    manager = make_manager(recipe_config.copy(), graded)
    texts = [
        "<candidate>b</candidate> <candidate>a</candidate>",
        "none",
        "<candidate>b</candidate>",
    ]
    infos = [score(manager, text) for text in texts]
    assert [set(info) for info in infos] == [set(infos[0])] * 3
    assert [info["pred"] for info in infos] == ["a", None, "b"]
    # As in verl's AgentLoopWorker._postprocess.
    columns = {key: np.array([info[key] for info in infos]) for key in infos[0]}
    rows = [CandidateRecord.from_json(text) for text in columns[RECORD_KEY]]
    assert [row.rewards for row in rows] == [[0.0, 1.0], [], [0.0]]
    json.dumps(infos)  # verl writes them into the files of a validation.


def test_weighted_numbers_are_keys_from_the_first_response_on(recipe_config):
    config = recipe_config.copy()
    config.algorithm.shape_grpo.reward_weights = {"helpful": 1.0}
    manager = make_manager(config, graded)
    assert score(manager, "none")["helpful"] is None
    assert score(manager, "<candidate>a</candidate>")["helpful"] == 0.5


@pytest.mark.parametrize("version", ["0.9.1", "0.9.1.post1", "0.9.2", "0.9.13", "0.9.2.dev0"])
def test_a_version_that_is_expected_to_work_is_not_warned_of(recipe_config, monkeypatch, version):
    monkeypatch.setattr(versions, "installed", lambda name: version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions.warn_of_another_verl()


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0.8.0", "lacks the trainers that this package extends"),
        ("0.9.0", "one step ran with 0.9.0, and 4 contract tests fail"),
        ("0.10.0.dev", "a snapshot of 0.10 from August 2026 ran, later ones are unknown"),
        ("0.10", "a snapshot of 0.10"),
        ("1.0.0", "a snapshot of 0.10"),
    ],
)
def test_another_version_is_warned_of_with_what_is_known_of_it(monkeypatch, version, known):
    monkeypatch.setattr(versions, "installed", lambda name: version)
    message = rf"beside verl .*from 0\.9\.1 on and below 0\.10\. .*{known}.* verl==0\.9\.1"
    with pytest.warns(UserWarning, match=message):
        versions.warn_of_another_verl()


def test_verls_own_trainer_is_refused_unless_it_may_pass_the_batch(recipe_config, monkeypatch):
    config = recipe_config.copy()
    config.trainer.v1.trainer_mode = "sync"
    for version in ("0.9.1", "0.9.9"):
        monkeypatch.setattr(versions, "installed", lambda name, version=version: version)
        with pytest.raises(ValueError, match="does not pass candidates"):
            check_trainer_config(config)
    monkeypatch.setattr(versions, "installed", lambda name: "0.10.0")
    with pytest.warns(
        UserWarning, match=r"write trainer.v1.trainer_mode=shape_grpo\. If verl 0.10"
    ):
        check_trainer_config(config)
