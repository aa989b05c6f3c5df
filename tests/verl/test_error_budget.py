"""A run most of whose rewards fail ends; by verl's own trainers and replay buffers."""

import itertools
import json
import logging

import numpy as np
import pytest

from shape_grpo.verl.checks import RECORD_KEY
from tests.verl.fake_queue import PROMPTS, SIZE, scored

FINE, FAILED = scored(1.0, 2.0), scored(None, None)
MODES = ["shape_grpo", "shape_grpo_colocate_async"]


@pytest.mark.parametrize("mode", MODES)
def test_filter_groups_does_not_ask_for_ever_where_every_reward_fails(make_trainer, queue, mode):
    """All scores are `floor_reward`, so that verl drops each group and asks for others."""
    trainer = make_trainer(mode, filter_groups=True)
    asked = itertools.count()

    def answer(prompts):
        for _ in range(prompts):
            number = next(asked)
            assert number < 100 * PROMPTS, "it never ends"
            queue.add_group(f"again{number}", [FAILED] * SIZE)

    trainer.replay_buffer.refill_fn = answer
    answer(PROMPTS)
    reason = r"(?s)failed for 16 of the last 16 candidates \(100%\).*verl dropped.*judge is down"
    with pytest.raises(RuntimeError, match=reason):
        trainer.replay_buffer.sample(global_steps=1, partition_id="train", batch_size=PROMPTS)
    assert next(asked) == PROMPTS


@pytest.mark.parametrize("mode", MODES)
def test_filter_groups_goes_on_where_rewards_are_equal_and_known(make_trainer, queue, mode):
    trainer = make_trainer(mode, filter_groups=True, on_error="raise")
    equal = iter([True] * 3 * PROMPTS + [False] * 9 * PROMPTS)

    def answer(prompts):
        for _ in range(prompts):
            first = scored(2.0) if next(equal) else scored(1.0)
            queue.add_group(f"uid{len(queue.tags)}", [first, scored(2.0)])

    trainer.replay_buffer.refill_fn = answer
    answer(PROMPTS)
    batch, metrics = trainer.replay_buffer.sample(
        global_steps=1, partition_id="train", batch_size=PROMPTS
    )
    assert len(batch.keys) == PROMPTS * SIZE
    assert metrics["training/filter_groups/evicted_samples"] == 3 * PROMPTS


HALF = [FINE, FAILED] * PROMPTS
STEPS = {
    # the responses of each step, the step (from 0) at which the run ends
    "a first step of failures": ([[FAILED] * 8], 0),
    "one step of failures": ([[FINE] * 8, [FAILED] * 8, [FINE] * 8], None),
    "two steps of failures": ([[FINE] * 8, [FAILED] * 8, [FAILED] * 8], 2),
    "half of them": ([HALF] * 4, None),
    "more than half": ([HALF, HALF, [*HALF[:-2], FAILED, FAILED]], 2),
    "old failures are forgotten": ([HALF, [FAILED, FINE, *[FINE] * 6], HALF, HALF, HALF], None),
}


@pytest.mark.parametrize(("steps", "end"), STEPS.values(), ids=STEPS)
def test_training_ends_where_more_than_half_of_three_steps_failed(
    make_trainer, run_step, steps, end
):
    trainer = make_trainer()
    for number, records in enumerate(steps):
        if number == end:
            with pytest.raises(RuntimeError, match=r"(?s)in training; max_error_share=0\.5.*down"):
                run_step(trainer, records)
        else:
            run_step(trainer, records)


ONE = [FINE] * 7 + [scored(1.0, None)]


@pytest.mark.parametrize(
    ("options", "records", "message"),
    [
        ({"on_error": "raise"}, ONE, r"1 of the last 16 candidates.*on_error=raise"),
        ({"max_error_share": 0}, ONE, r"1 of the last 16 candidates.*max_error_share=0"),
        ({"max_error_share": 0.05}, ONE, r"1 of the last 16 candidates \(6%\).*=0.05"),
        ({"max_error_share": 0.1}, ONE, None),
        ({"max_error_share": 1}, [FAILED] * 8, None),
    ],
)
def test_the_share_that_may_fail_is_a_setting(make_trainer, run_step, options, records, message):
    trainer = make_trainer(**options)
    if message is None:
        run_step(trainer, records)
        return
    with pytest.raises(RuntimeError, match=message):
        run_step(trainer, records)


def test_floor_rewards_do_not_hide_a_reward_that_always_fails(make_trainer, run_step):
    """A policy that repeats itself, under ``duplicate=floor``: one call of four fails in each."""
    record = scored(None, 0.0, 0.0, 0.0)
    record.floor_places = [1, 2, 3]
    with pytest.raises(RuntimeError, match=r"8 of the last 8 candidates \(100%\) in training"):
        run_step(make_trainer(), [record] * 8)


@pytest.mark.parametrize(
    ("records", "ends"), [([FINE, FAILED], False), ([FINE, FAILED, FAILED], True)]
)
def test_a_validation_counts_by_itself(make_trainer, records, ends):
    trainer = make_trainer()
    infos = {
        "reward": [1.0] * len(records),
        RECORD_KEY: [record.to_json() for record in records],
    }
    uids = [str(number) for number in range(len(records))]
    arguments = (["films"] * len(records), uids, infos, np.ones(len(records)))
    if ends:
        with pytest.raises(RuntimeError, match=r"(?s)4 of the last 6 .*in validation.*judge is do"):
            trainer._val_metrics_update(*arguments)
    else:
        metrics = trainer._val_metrics_update(*arguments)
        assert metrics["val-core/films/reward/mean@1"] == 1.0


def test_lost_responses_are_counted_and_said_once(make_trainer, run_step, caplog):
    trainer = make_trainer()
    with caplog.at_level(logging.WARNING, "verl"):
        _, whole = run_step(trainer, [FINE, scored(3.0)] * 4)
        assert not caplog.records
        for _ in range(2):
            _, short = run_step(trainer, [FINE, scored(3.0), FINE, scored(3.0), FINE])
    assert whole["shape_grpo/responses"] == whole["shape_grpo/responses_expected"] == 8
    assert (short["shape_grpo/responses"], short["shape_grpo/responses_expected"]) == (5, 8)
    assert [record.getMessage()[:25] for record in caplog.records] == ["Step 1 has 5 responses of"]


def test_padding_is_no_response(make_trainer, run_step, queue, monkeypatch):
    trainer = make_trainer()
    put = queue.kv_batch_put

    def padded(keys, partition_id, **more):
        queue.tags[keys[-1]]["is_padding"] = True
        return put(keys, partition_id, **more)

    monkeypatch.setattr(queue, "kv_batch_put", padded)
    _, metrics = run_step(trainer, [FINE] * 7 + [FAILED])
    assert metrics["shape_grpo/responses"] == 7
    assert metrics["shape_grpo/reward_errors"] == 0


def test_numbers_of_several_updates_add_up_and_means_are_averaged(make_trainer, run_step):
    """verl's aggregator averages what it does not know by its name."""
    trainer = make_trainer("shape_grpo_colocate_async")
    records = [scored(1.0)] * 6 + [scored(1.0, None, 4.0)] * 2
    _, once = run_step(trainer, records, updates=1)
    _, four = run_step(trainer, records, updates=4)
    for metrics in (once, four):
        assert metrics["shape_grpo/reward_errors"] == 2
        assert metrics["shape_grpo/responses"] == metrics["shape_grpo/responses_expected"] == 8
    assert once["shape_grpo/best_candidate_reward"] == pytest.approx((6 * 1 + 2 * 4) / 8)
    assert four["shape_grpo/best_candidate_reward"] == pytest.approx((6 * 1 + 2 * 4) / 8)
    assert four["shape_grpo/reward_error_share"] == pytest.approx((0 + 0 + 0 + 1 / 3) / 4)


def test_records_are_read_once_a_step_and_written_with_the_rollouts(
    make_trainer, run_step, queue, tmp_path
):
    trainer = make_trainer("shape_grpo_colocate_async")
    trainer.tokenizer = type("Tokenizer", (), {"pad_token_id": 0, "decode": lambda *_, **__: ""})()
    trainer._init_dump_executor()
    batch, _ = run_step(trainer, [scored(float(number)) for number in range(8)], updates=2)
    trainer._log_rollout_data(batch, {}, str(tmp_path))
    trainer._shutdown_dump_executor()
    reads = [key for key, name in queue.reads if name == "extra_fields"]
    assert sorted(reads) == sorted(batch.keys)
    lines = map(json.loads, (tmp_path / "1.jsonl").read_text().splitlines())
    written = {line["uid"]: json.loads(line[RECORD_KEY])["rewards"] for line in lines}
    assert written == {key: [float(number)] for number, key in enumerate(batch.keys)}


def test_a_score_from_elsewhere_is_said_to_be(make_trainer, run_step, queue, monkeypatch):
    """From an agent loop that sets ``reward_score`` there is no ``reward_extra_info``."""
    trainer = make_trainer()
    put = queue.kv_batch_put

    def scored_by_its_agent_loop(keys, partition_id, **more):
        queue.fields[keys[0]]["extra_fields"] = {}
        return put(keys, partition_id, **more)

    monkeypatch.setattr(queue, "kv_batch_put", scored_by_its_agent_loop)
    with pytest.raises(RuntimeError, match=r"uid0_0_0 has a score and no .*agent loop"):
        run_step(trainer, [FINE] * 8)


@pytest.mark.parametrize("mode", MODES)
def test_what_verl_logs_of_its_configuration_tells_our_trainer_from_its_own(make_trainer, mode):
    config = make_trainer(mode).config
    assert config.trainer.v1.registered_trainer == mode
    assert config.trainer.v1.trainer_mode == mode.removeprefix("shape_grpo_").replace(
        "shape_grpo", "sync"
    )


@pytest.mark.parametrize("mode", MODES)
def test_filter_groups_does_not_ask_for_ever_where_rewards_are_equal(make_trainer, queue, mode):
    trainer = make_trainer(mode, filter_groups=True)
    trainer._drops.batches = 3
    asked = itertools.count()

    def answer(prompts):
        for _ in range(prompts):
            number = next(asked)
            assert number < 100 * PROMPTS, "it never ends"
            queue.add_group(f"again{number}", [scored(2.0)] * SIZE)

    trainer.replay_buffer.refill_fn = answer
    answer(PROMPTS)
    reason = r"dropped \d+ groups of equal rewards .* values: 2 in \d+\. Does the reward function"
    with pytest.raises(RuntimeError, match=reason):
        trainer.replay_buffer.sample(global_steps=1, partition_id="train", batch_size=PROMPTS)


def test_groups_without_spread_are_counted_in_a_step(make_trainer, run_step, caplog):
    trainer = make_trainer()
    with caplog.at_level(logging.WARNING, "verl"):
        _, metrics = run_step(trainer, [scored(1.0), scored(2.0), *[FINE] * 6], updates=2)
    assert metrics["shape_grpo/groups_without_spread"] == 3
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("2 of 2 groups of a step have no spread") and "2 in 2" in said
