"""The floor reward ``lowest``: an empty or repeated answer is worth no more than what was seen."""

import asyncio
from functools import partial

import pytest

from shape_grpo.advantage import CandidateRecord, candidate_advantages
from shape_grpo.candidates import Candidate, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import Floor, RewardFunction, candidate_arguments
from tests.verl.fake_queue import scored

ROW = {"data_source": "", "reward_model": {"ground_truth": ""}, "extra_info": {}}


def numbers(solution_str, **kwargs):
    return float(solution_str)


def score_all(answers, function=numbers, **block):
    """The records and scores of answers, each a list of candidates, scored one after the other."""
    config = ShapeGRPOConfig(**block)
    asked = RewardFunction(function, config)

    async def score():
        records = []
        for texts in answers:
            written = [Candidate(text, 0, len(text)) for text in texts]
            found = CandidateSet.from_candidates(written, [(0, 1)] * len(texts), config)
            settled = await asked.score_set(found, partial(candidate_arguments, ROW))
            records.append(settled.record)
            asked.floor.settle(records[-1:])
        return records

    records = asyncio.run(score())
    return records, [config.score(record) for record in records]


SEEN = {
    # rewards of the answers before an empty one, what that is worth
    "negative": ([["-4", "-1"], ["-2"]], -4.0),
    "of both signs": ([["-1", "3"]], -1.0),
    "0 and more": ([["2", "5"]], 0.0),
    "nothing": ([], 0.0),
    "a failure says nothing": ([["-2"], ["many"]], -2.0),
}


@pytest.mark.parametrize(("answers", "worth"), SEEN.values(), ids=SEEN)
def test_an_empty_answer_is_worth_the_lowest_reward_so_far(answers, worth):
    records, scores = score_all([*answers, []])
    assert (scores[-1], records[-1].floor) == (worth, worth)


def test_it_is_known_to_whoever_reads_the_record():
    records, scores = score_all([["-3"], []])
    read = CandidateRecord.from_json(records[-1].to_json())
    assert ShapeGRPOConfig().score(read) == scores[-1] == -3.0


@pytest.mark.parametrize("rule", ["duplicate", "empty"])
def test_a_candidate_under_the_rule_floor_gets_it_too(rule):
    repeat = "-2" if rule == "duplicate" else ""
    records, _ = score_all([["-4"], ["-2", repeat]], **{rule: "floor"})
    assert records[1].rewards == [-2.0, -4.0]
    # Its own response is seen first.
    records, _ = score_all([["-5", "-5"]], duplicate="floor")
    assert records[0].rewards == [-5.0, -5.0]


@pytest.mark.parametrize("utility", ["max", "sum", "mean"])
def test_no_set_is_worth_less_than_an_empty_one(utility):
    _, scores = score_all([["-4", "-3"], ["-1"], []], utility=utility)
    assert scores[-1] == min(scores)


ALONE = {
    # utility: options, the floor of a set that the function scored nothing of, after U of -9, -13
    "max": ({}, -5.0),
    "mean": ({}, -5.0),
    "sum": ({}, -13.0),
    "top_m": ({"m": 3}, -13.0),
    "owa": ({"weights": [1.0, 1.0, 1.0]}, -13.0),
    "oracle": ({}, -13.0),
}


@pytest.mark.parametrize(("utility", "options", "worth"), [(k, *each) for k, each in ALONE.items()])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("setting", ["lowest", -2.5])
def test_candidates_under_floor_alone_are_worth_an_empty_answer(
    utility, options, worth, count, setting
):
    """Under ``sum`` one of them was worth its own floor of -5, and honest sets -9 and -13."""
    block = {"utility": utility, "utility_options": options, "floor_reward": setting}
    function = oracle if utility == "oracle" else numbers
    seen = [["-4", "-5"], ["-4", "-4.5", "-4.5"]]
    records, scores = score_all(
        [*seen, [""] * count, []], function, empty="floor", duplicate="score", **block
    )
    assert len(records[2].floor_places) == count
    assert scores[2] == scores[3] == (worth if setting == "lowest" else setting)
    read = CandidateRecord.from_json(records[2].to_json())
    assert ShapeGRPOConfig(**block).score(read) == scores[2]


@pytest.mark.parametrize("utility", ["max", "sum"])
def test_processes_agree_on_candidates_under_floor_alone(utility):
    """The first worker saw nothing yet: its empty candidate was worth 0 beside others' -4."""
    block = {"utility": utility, "empty": "floor"}
    config = ShapeGRPOConfig(**block)
    first, second = (score_all([texts], **block)[0][0] for texts in ([""], ["-4"]))
    Floor(config).agree([first, second])
    assert [config.score(first), config.score(second)] == [-4.0, -4.0]


@pytest.mark.parametrize(
    ("utility", "rewards", "worth"),
    [("mean", [-1.0, -10.0], -5.5), ("sum", [-1.0, -10.0], -11.0), ("max", [-1.0, -10.0], -1.0)],
)
def test_processes_agree_on_repeats(utility, rewards, worth):
    """Only the second worker has seen -10, or floors of it: the same answer has one score."""
    block = {"utility": utility, "duplicate": "floor"}
    config = ShapeGRPOConfig(**block)
    records = [
        score_all(each, **block)[0][-1] for each in ([["-1", "-1"]], [["-10"], ["-1", "-1"]])
    ]
    Floor(config).agree(records)
    assert [record.rewards for record in records] == [rewards] * 2
    assert [config.score(record) for record in records] == [worth] * 2


def test_a_set_that_was_split_already_keeps_its_floors():
    block = {"utility": "oracle", "duplicate": "floor"}
    (record,), _ = score_all([["-1", "-1"]], oracle, **block)
    before = list(record.rewards), record.value
    Floor(ShapeGRPOConfig(**block)).agree([record, scored(-10.0)])
    assert (record.rewards, record.value) == before


def test_a_set_whose_rewards_all_failed_is_worth_the_same():
    """Stock estimators and verl's validation read its score."""
    _, scores = score_all([["-4"], ["many"]])
    assert scores == [-4.0, -4.0]


def test_a_number_is_what_was_written():
    _, scores = score_all([["-4"], []], floor_reward=-0.5)
    assert scores == [-4.0, -0.5]


def vectors(solution_str, **kwargs):
    return [float(number) for number in solution_str.split()]


def test_of_vectors_it_is_the_lowest_of_each_component():
    block = {
        "utility": "custom",
        "utility_options": {"function": _sum_of_bests, "components": 2},
        "duplicate": "floor",
    }
    records, scores = score_all([["-1 2", "-3 -2"], ["5 -4", "5 -4"], []], vectors, **block)
    assert records[1].rewards == [[5.0, -4.0], [-3.0, -4.0]]
    assert scores == [1.0, 1.0, 0.0]
    passed, _ = score_all([["1 0", "1 0"]], vectors, utility="coverage", duplicate="floor")
    assert passed[0].rewards == [[1.0, 0.0], []]


def _sum_of_bests(rewards, mask):
    best = rewards.masked_fill(~mask.unsqueeze(2), -1e9).amax(dim=1).sum(dim=1)
    return best.masked_fill(~mask.any(dim=1), 0.0)


def oracle(solutions, **kwargs):
    return float(sum(map(float, solutions)))


def test_under_an_oracle_it_is_the_lowest_utility():
    _, scores = score_all(
        [["-4", "-3"], ["-1", "-1"], []], oracle, utility="oracle", duplicate="floor"
    )
    assert scores == [-7.0, -5.0, -7.0]


def test_of_normalised_rewards_it_is_the_lowest_of_the_group():
    block = {"reward_weights": {"a": 1.0}, "normalize_rewards": "group", "duplicate": "floor"}
    config = ShapeGRPOConfig(**block)
    records = [
        CandidateRecord([-0.1, -0.2], [0, 1], [1, 2], parts={"a": [-0.1, -0.2]}),
        CandidateRecord([-0.3, -0.3], [0, 1], [1, 2], floor_places=[1], parts={"a": [-0.3, None]}),
        CandidateRecord(floor=-0.3),
    ]
    credited = config.training_records(records, ["p"] * 3)
    # The standard deviation of -0.1, -0.2, -0.3 is 0.1.
    assert credited[0].rewards == pytest.approx([-1, -2])
    assert credited[1].rewards == pytest.approx([-3, -3])
    assert config.score(credited[2]) == pytest.approx(-3)
    alone = CandidateRecord([-0.3], [0], [1], floor_places=[0], floor=-0.3)
    credited = ShapeGRPOConfig(**block, utility="sum").training_records(
        [*records, alone], ["p"] * 4
    )
    assert credited[3].floor == pytest.approx(-6)


@pytest.mark.parametrize("floor", [-0.02, -9, 0, "0"])
def test_a_number_beside_normalised_rewards_is_refused(floor):
    """It would not be scaled: -0.02 below rewards of -0.01 is far above their scaled -3."""
    block = {"reward_weights": {"a": 1.0}, "normalize_rewards": "group"}
    with pytest.raises(ValueError, match=r"floor_reward=.*normalize_rewards=group .*=lowest"):
        ShapeGRPOConfig(**block, floor_reward=floor)


def test_an_empty_answer_is_not_praised_in_a_group_of_negative_rewards():
    """With a floor of 0 its advantage was the highest of the group."""
    config = ShapeGRPOConfig()
    _, scores = score_all([["-4", "-1"], ["-2"], []])
    _, shared = candidate_advantages(
        [[-4.0, -1.0], [-2.0, 0.0], [0.0, 0.0]],
        [[True, True], [True, False], [False, False]],
        [[1, 1]] * 3,
        ["p"] * 3,
        config.method,
        scores=scores,
    )
    assert shared.argmin() == 2 and shared[2] < 0


@pytest.mark.parametrize("utility", ["max", "coverage", "distinct_n"])
@pytest.mark.parametrize("value", ["lowst", True, None, float("nan"), "-nan", float("inf"), -2e12])
def test_another_value_is_refused_in_words(value, utility):
    with pytest.raises(ValueError, match="floor_reward"):
        ShapeGRPOConfig(floor_reward=value, utility=utility)


def test_a_record_of_an_earlier_version_is_read():
    old = scored(1.0).to_json().replace('"floor_places":[]', '"num_floor_rewards":0')
    assert "num_floor_rewards" in old
    assert CandidateRecord.from_json(old) == scored(1.0)


@pytest.mark.parametrize(("setting", "worth"), [("lowest", -3.0), (1.0, 1.0), (-1.0, -1.0)])
def test_processes_agree_on_the_lowest_of_all(setting, worth):
    config = ShapeGRPOConfig(floor_reward=setting)
    own = (0.0, -2.0) if setting == "lowest" else (setting, setting)
    records = [CandidateRecord(floor=own[0]), CandidateRecord(floor=own[1]), scored(-3.0)]
    Floor(config).agree(records)
    assert [config.score(record) for record in records] == [worth, worth, -3.0]


def test_scores_of_many_are_those_of_each():
    config = ShapeGRPOConfig(utility="mean")
    records = [
        CandidateRecord([1.0, 2.5, None], [0, 1, 2], [1, 2, 3]),
        CandidateRecord(floor=-3.0),
        CandidateRecord([-4.0], [0], [1]),
        CandidateRecord(),
    ]
    assert config.scores(records) == [1.75, -3.0, -4.0, 0.0]
    assert [config.score(record) for record in records] == config.scores(records)
    assert config.scores([]) == []
